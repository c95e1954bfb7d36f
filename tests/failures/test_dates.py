import pytest

from nemo_distill.failures.dates import changed_dates, dates
from nemo_distill.failures.segment import Segment

DATES = [
    ("am Dienstag, dem 3. Oktober 2013", "de", {"Tuesday", "October", "3 October"}),
    ("on Tuesday, October 3rd, 2013", "en", {"Tuesday", "October", "3 October"}),
    ("on the 3rd of October", "en", {"October", "3 October"}),
    ("vom 8. bis 9. September", "de", {"September", "8 September", "9 September"}),
    ("September 8th and 9th", "en", {"September", "8 September", "9 September"}),
    ("the 8th and 9th September", "en", {"September", "8 September", "9 September"}),
    ("on October 26: the summit", "en", {"October", "26 October"}),
    ("May 10:30", "en", {"May"}),  # a time, not a day
    ("12.03.2013", "de", {"March", "12 March"}),
    ("2013-03-12", "en", {"March", "12 March"}),
    ("3/12/2013", "en", {"March", "12 March", "December", "3 December"}),  # read either way
    ("you may march and sat", "en", set()),
    ("Sonnabends im Jänner", "de", {"Saturday", "January"}),
    ("montags am Sonntagabend", "de", {"Monday", "Sunday"}),
    ("Mo. - Fr., 12. Jan.", "de", {"Monday", "Friday", "January", "12 January"}),
    ("Ich denke so.", "de", set()),
    ("on the first of May", "en", {"May", "1 May"}),
    ("two of October 15", "en", {"October", "15 October"}),
    ("am ersten Mai", "de", {"May", "1 May"}),
]


@pytest.mark.parametrize(("text", "language", "found"), DATES)
def test_dates_are_read(text, language, found):
    assert dates(text, language) == found


@pytest.mark.parametrize(
    ("translation", "found"),
    [
        ("It was on March 21, 2011.", []),
        ("It was on 21 March.", []),
        ("It was on the 21st. March 2011.", []),  # a full stop too many, but the date is there
        ("It was on the 21st. On March 1st, 2011.", ["21 March"]),
        ("It was on 21 May.", ["21 March", "March"]),
    ],
)
def test_lost_dates_are_found(translation, found):
    assert changed_dates(Segment("Es war am 21. März 2011.", translation, "On 21 March 2011."), "de", "en") == found


def test_a_date_that_the_reference_leaves_out_is_not_lost():
    assert changed_dates(Segment("am Montag", "then", "then"), "de", "en") == []
