import pytest

from nemo_distill.failures.repetition import loops
from nemo_distill.failures.segment import Segment


@pytest.mark.parametrize(
    ("source", "translation", "found"),
    [
        ("Angebote", "offers offers offers", ["offers (3 times)"]),
        ("Er hatte", "He had had", []),
        ("sehr sehr sehr gut", "very very very good", []),
        ("der Leiter", "the head of the head of it", ["the head of (2 times)"]),
        ("am Montag", "on Monday on Monday", ["on monday (2 times)"]),
        ("immer mehr", "and more and more", []),
        ("--- er", "n------- he", []),
        ("haha", "hahahahaha", ["hahahahaha"]),
        ("hahahahaha", "hahahahaha", []),
        ("1000000", "1000000", []),
        ("葡萄园", "葡萄葡萄园", ["葡 萄 (2 times)"]),
        ("", "", []),
    ],
)
def test_repetitions_beyond_those_of_the_source_are_loops(source, translation, found):
    assert loops(Segment(source, translation, source), 2) == found


def test_a_phrase_that_comes_back_again_and_again_is_a_loop():
    phrase = "it was the best of all times"
    segment = Segment("Es war.", f"{phrase}, then {phrase}, or {phrase}", "It was.")
    assert loops(segment, 2) == ["it was the best of all (3 times)"]
    assert loops(Segment("Es war.", f"{phrase}, then {phrase}", "It was."), 2) == []


def test_what_the_reference_repeats_is_no_loop():
    assert loops(Segment("Nein.", "no, no, no, no", "no, no, no, no"), 2) == []
