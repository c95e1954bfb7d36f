import pytest

from nemo_distill.demo_corpus import lexicon as demo_lexicon
from nemo_distill.demo_corpus.inflection import (
    adjective_ending,
    decline,
    english_number,
    english_present,
    english_progressive,
    german_number,
)


@pytest.mark.parametrize(
    ("noun", "case", "plural", "expected"),
    [
        ("Hund", "gen", False, "Hundes"),
        ("Student", "acc", False, "Studenten"),
        ("Student", "nom", False, "Student"),
        ("Kind", "dat", True, "Kindern"),
        ("Frau", "gen", False, "Frau"),
        ("Lehrer", "gen", False, "Lehrers"),
    ],
)
def test_nouns_are_declined(noun, case, plural, expected):
    (found,) = [entry for entry in demo_lexicon.PEOPLE if entry.singular == noun]
    assert decline(found, case, plural) == expected


@pytest.mark.parametrize(
    ("number", "german", "english"),
    [
        (7, "sieben", "seven"),
        (20, "zwanzig", "twenty"),
        (21, "einundzwanzig", "twenty-one"),
        (99, "neunundneunzig", "ninety-nine"),
    ],
)
def test_numbers_are_spelt(number, german, english):
    assert (german_number(number), english_number(number)) == (german, english)


@pytest.mark.parametrize(
    ("base", "third", "progressive"),
    [("look for", "looks for", "looking for"), ("carry", "carries", "carrying"), ("get up", "gets up", "getting up"),
     ("see", "sees", "seeing"), ("close", "closes", "closing"), ("watch", "watches", "watching")],
)  # fmt: skip
def test_english_verbs_are_inflected(base, third, progressive):
    assert (english_present(base, 1), english_present(base, 2), english_progressive(base)) == (
        third,
        base,
        progressive,
    )


@pytest.mark.parametrize(
    ("determiner", "case", "form", "expected"),
    [
        ("definite", "nom", "m", "e"),
        ("indefinite", "nom", "m", "er"),
        ("indefinite", "acc", "n", "es"),
        ("possessive", "dat", "f", "en"),
        ("definite", "nom", "p", "en"),
        ("number", "dat", "p", "en"),
        ("number", "nom", "p", "e"),
    ],
)
def test_adjectives_agree(determiner, case, form, expected):
    assert adjective_ending(determiner, case, form) == expected
