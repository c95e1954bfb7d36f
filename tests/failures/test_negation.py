import pytest

from nemo_distill.failures.negation import lost_negation
from nemo_distill.failures.segment import Segment


@pytest.mark.parametrize(
    ("source", "translation", "reference", "found"),
    [
        ("Er kommt nicht.", "He comes.", "He does not come.", ["nicht"]),
        ("Er kommt nicht.", "He doesn't come.", "He does not come.", []),
        ("Er kommt nicht.", "He doesn’t come.", "He does not come.", []),
        ("Er ist nicht fähig.", "He is unable.", "He cannot.", []),
        ("Er ist nicht fähig.", "He is under pressure.", "He cannot.", ["nicht"]),
        ("Er hat niemanden.", "He lives without people.", "He has nobody.", []),
        ("Er kam noch nicht.", "He has yet to come.", "He did not come yet.", []),
        ("Ich weiß, ob nicht Regen kommt.", "I know if rain comes.", "whether rain is not coming", []),
        ("Er kommt.", "He comes.", "He does not come.", []),
        ("Er kommt nicht.", "He stays.", "He stays away.", []),  # the reference says it without one
        ("Nicht nur er, sondern auch sie kam.", "Both came.", "Not only he came.", []),
        ("Er kommt, nicht wahr?", "He comes, right?", "He comes, doesn't he?", []),
        ("Er kommt nicht nur.", "He comes.", "He does not come.", []),
        ("Er kommt nicht mehr.", "He comes.", "He no longer comes.", ["nicht"]),
        ("Keine Zeit, nie.", "Time.", "No time, never.", ["Keine", "nie"]),
    ],
)
def test_a_negation_that_german_has_is_lost_in_english(source, translation, reference, found):
    assert lost_negation(Segment(source, translation, reference), "de", "en") == found


@pytest.mark.parametrize(
    ("translation", "found"), [("Er kommt.", ["not"]), ("Er kommt nie.", []), ("Er bleibt ohne Geld.", [])]
)
def test_a_negation_that_english_has_is_lost_in_german(translation, found):
    assert lost_negation(Segment("He does not come.", translation, "Er kommt nicht."), "en", "de") == found


@pytest.mark.parametrize(
    ("source", "translation", "reference"),
    [
        ("not until Monday", "erst am Montag", "nicht vor Montag"),
        ("no more than five", "höchstens fünf", "nicht mehr als fünf"),
        ("It is warm, isn't it?", "Es ist warm, oder?", "Es ist warm, nicht wahr?"),
    ],
)
def test_what_is_often_said_without_a_negation_is_not_lost(source, translation, reference):
    assert lost_negation(Segment(source, translation, reference), "en", "de") == []
