import pytest

from nemo_distill.failures.lengths import characters_per_source, cut, empty, too_long, too_short
from nemo_distill.failures.segment import Segment

SENTENCE = "Der Sprecher sagte, dass von einer erheblichen Summe auszugehen sei, und nannte Gründe."


@pytest.mark.parametrize(("translation", "is_empty"), [("", True), (" . ", True), ("a", False), ("5", False)])
def test_text_without_letters_is_empty(translation, is_empty):
    assert bool(empty(Segment("Ja, 5.", translation, "Yes, 5."))) == is_empty


def test_nothing_can_be_translated_of_signs_alone():
    assert empty(Segment("...", "", "...")) == []


@pytest.mark.parametrize(
    ("translation", "found"),
    [
        ("The spokesman said that a", ["… that a"]),
        ("The spokesman said that.", []),  # it ends, even if too early
        (SENTENCE[:-1], []),  # only the full stop is lost
        ("", []),
    ],
)
def test_a_sentence_that_stops_early_without_punctuation_is_cut(translation, found):
    assert cut(Segment(SENTENCE, translation, SENTENCE), 1.0, 0.6) == [
        one.replace("that a", "said that a") for one in found
    ]


def test_a_headline_has_no_end_to_lose():
    assert cut(Segment(SENTENCE[:-1], "The", SENTENCE[:-1]), 1.0, 0.6) == []


@pytest.mark.parametrize(
    ("reference", "translation", "short", "long"),
    [
        (SENTENCE, SENTENCE, False, False),
        (SENTENCE, "He said that.", True, False),
        (SENTENCE, SENTENCE * 3, False, True),
        ("He said that.", "He said that!", False, False),  # the source alone is long
        (SENTENCE * 3, SENTENCE * 3, False, False),  # the reference is as long
        (SENTENCE, "", False, False),  # empty is another kind
    ],
)
def test_a_length_is_wrong_if_source_and_reference_say_so(reference, translation, short, long):
    segment = Segment(SENTENCE, translation, reference)
    assert bool(too_short(segment, 1.0, 0.6)) == short
    assert bool(too_long(segment, 1.0, 1.8)) == long


def test_short_lines_may_differ_more():
    assert too_long(Segment("Ja.", "Yes, of course.", "Yes."), 1.0, 1.8) == []


def test_languages_differ_in_their_characters():
    assert characters_per_source(["abcd ef", "gh"], ["ab c", "d"]) == 0.5
    assert characters_per_source([""], [""]) == 0
