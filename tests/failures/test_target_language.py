import pytest

from nemo_distill.failures.segment import Segment
from nemo_distill.failures.target_language import knows, language_of, wrong_language

GERMAN = "Die Regierung hat gestern ein neues Gesetz beschlossen, das noch in diesem Jahr gelten soll."
ENGLISH = "The government passed a new law yesterday which is to take effect before the end of this year."
CHINESE = "政府昨天通过了一项新的法律，将于今年年底之前生效。"


@pytest.mark.parametrize(
    ("translation", "reference", "found"),
    [
        (ENGLISH, ENGLISH, []),
        (GERMAN, ENGLISH, ["de"]),
        (CHINESE, ENGLISH, ["zh"]),
        ("Die Regierung.", ENGLISH, None),  # too short
        (GERMAN, "The law.", None),
        (GERMAN, GERMAN, None),  # the reference too is German
        (f"{ENGLISH} (Nejvyšší Kontrolní Úřad)", ENGLISH, []),
    ],
)
def test_long_lines_in_another_language_are_found(translation, reference, found):
    assert wrong_language(Segment(GERMAN, translation, reference), "en", 0.9) == found


def test_chinese_lines_are_long_with_fewer_characters():
    assert wrong_language(Segment(ENGLISH, CHINESE, CHINESE), "zh", 0.9) == []


def test_languages_are_recognized():
    assert language_of(GERMAN) == "de"
    assert knows("en") and not knows("xx")
