import random
import re

import pytest

from nemo_distill.text.text_noise import EMOJI, SIMILAR, TAGS, TEXT_NOISE

WORDS = ["Der", "Hund", ",", "den", "ich", "„", "sehe", "“", ",", "bellt", "nicht", "."]


def made(name, probability, words=WORDS, times=400, seed=0):
    generator = random.Random(seed)
    return [TEXT_NOISE[name](words, probability, generator) for _ in range(times)]


@pytest.mark.parametrize("name", TEXT_NOISE)
def test_without_a_chance_nothing_changes_and_the_seed_decides_otherwise(name):
    assert made(name, 0.0, times=5) == [WORDS] * 5
    assert made(name, 0.5, seed=1) == made(name, 0.5, seed=1) != made(name, 0.5, seed=2)


@pytest.mark.parametrize("name", ["case", "tags", "emoji"])
def test_sentences_are_changed_at_their_rate(name):
    changed = sum(words != WORDS for words in made(name, 0.3))
    assert changed == pytest.approx(0.3 * 400, rel=0.25)


def test_case_has_three_forms():
    texts = {" ".join(words) for words in made("case", 0.9)}
    plain = " ".join(WORDS)
    assert texts == {plain, plain.lower(), plain.upper(), " ".join(word.title() for word in WORDS)}


def test_a_word_has_one_capital():
    """`str.title` would write one behind each apostrophe as well."""
    assert {word for (word,) in made("case", 0.9, ["don't"])} == {"don't", "Don't", "DON'T"}


def test_a_typing_error_is_one_letter_of_a_word():
    found = made("typing", 0.25, ["Hund", "ü", ",", "sehen"])
    assert all(words[1:3] == ["ü", ","] for words in found)  # too short, and no word
    wrong = [words[0] for words in found if words[0] != "Hund"]
    assert len(wrong) == pytest.approx(100, rel=0.3)
    assert {len(word) for word in wrong} == {3, 4, 5}
    assert {"uHnd", "Hun", "HHund", "Jund"} & set(wrong) == {"uHnd", "Hun", "HHund", "Jund"}
    assert all(sum(a != b for a, b in zip(word, "Hund")) <= 2 for word in wrong if len(word) == 4)


def test_punctuation_is_left_out_doubled_or_replaced_and_letters_stay():
    found = made("punctuation", 0.5)
    assert all(
        [word for word in words if word.isalpha()] == [word for word in WORDS if word.isalpha()] for words in found
    )
    ends = {words[-1] for words in found}
    assert ends == {".", "", "..", *SIMILAR["."]}
    assert sum(words[-1] != "." for words in found) == pytest.approx(200, rel=0.2)


def test_spaces_are_lost_or_added_and_letters_stay():
    found = made("whitespace", 0.2)
    assert all("".join(words) == "".join(WORDS) for words in found)
    lengths = {len(words) for words in found}
    assert min(lengths) < len(WORDS) < max(lengths)


def test_tags_are_closed_where_they_were_opened():
    for words in made("tags", 0.9):
        text = " ".join(words)
        assert re.sub(r"</?[a-z]+>", "", text) == " ".join(WORDS)
        if opened := re.findall(r"<([a-z]+)>", text):
            assert re.findall(r"</([a-z]+)>", text) == opened and opened[0] in TAGS
            assert text.index("<") < text.index("</")


def test_an_emoji_stands_at_an_end():
    found = [words for words in made("emoji", 0.9) if words != WORDS]
    assert all(words[1:] == WORDS or words[:-1] == WORDS for words in found)
    assert {words[-1] for words in found} > set(EMOJI)


@pytest.mark.parametrize("name", TEXT_NOISE)
def test_one_word_survives_every_noise(name):
    assert all("".join(words).strip() or name == "punctuation" for words in made(name, 0.9, ["a"]))
