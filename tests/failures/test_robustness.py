import pytest

from nemo_distill.failures.robustness import NOISES, fragile, noised

LINES = ["Der Hund bellt", "Das ist gut.", "", "ab c", "Müller schwimmt 5 Minuten"]


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        ("full_stop", ["Der Hund bellt.", "Das ist gut.", "", "ab c.", "Müller schwimmt 5 Minuten."]),
        ("lower_case", ["der hund bellt", "das ist gut.", "", "ab c", "müller schwimmt 5 minuten"]),
    ],
)
def test_full_stops_are_added_and_capitals_taken(noise, expected):
    assert noised(LINES, noise, 0) == expected


def test_a_word_that_ends_with_a_vowel_sign_ends_no_sentence():
    assert noised(["यह अच्छा है", "यह अच्छा है।"], "full_stop", 0) == ["यह अच्छा है.", "यह अच्छा है।"]


def test_one_letter_in_one_word_is_mistyped():
    for seed in range(30):
        for line, typed in zip(LINES, noised(LINES, "typing_error", seed)):
            pairs = [pair for pair in zip(line.split(), typed.split()) if pair[0] != pair[1]]
            assert len(pairs) == any(len(word) > 3 for word in line.split() if word.isalpha())
            for word, wrong in pairs:
                assert word[0] == wrong[0] and word[-1] == wrong[-1] and abs(len(word) - len(wrong)) <= 1


def test_noise_depends_on_the_seed_only():
    assert noised(LINES * 9, "typing_error", 1) == noised(LINES * 9, "typing_error", 1)
    assert noised(LINES * 9, "typing_error", 1) != noised(LINES * 9, "typing_error", 2)
    assert noised([], "typing_error", 1) == []


def test_a_translation_that_gets_much_worse_is_fragile():
    reference = "The dog barks at the postman."
    assert fragile(reference, "The dog.", reference, 30) == ["chrF 100, then 19: The dog."]
    assert fragile(reference, "The dog barks at a postman.", reference, 30) == []
    assert fragile("The dog.", reference, reference, 30) == []
    assert NOISES == ("full_stop", "lower_case", "typing_error")
