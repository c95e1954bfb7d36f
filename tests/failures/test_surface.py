import random

import pytest

from nemo_distill.failures.segment import Segment
from nemo_distill.failures.surface import (
    _most_phrases,
    changed_addresses,
    changed_tags,
    characters_per_source,
    cut,
    empty,
    garbled,
    longest_run,
    loops,
    too_long,
    too_short,
)

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
        (" ".join(SENTENCE.split()[:8]), ["… einer erheblichen Summe"]),  # not too short for one that ends
        ("The spokesman said that.", []),  # it ends, even if too early
        (SENTENCE[:-1], []),  # only the full stop is lost
        ("", []),
    ],
)
def test_a_sentence_that_stops_early_without_punctuation_is_cut(translation, found):
    assert cut(Segment(SENTENCE, translation, SENTENCE), 1.0, 0.6) == [
        one.replace("that a", "said that a") for one in found
    ]


@pytest.mark.parametrize("end", list("।॥؟۔။។።։"))
def test_a_sentence_ends_in_the_way_of_its_language(end):
    reference, translation = SENTENCE[:-1] + end, " ".join(SENTENCE.split()[:8])
    assert cut(Segment(SENTENCE, translation, reference), 1.0, 0.6)
    assert cut(Segment(SENTENCE, translation + end, reference), 1.0, 0.6) == []


def test_a_headline_has_no_end_to_lose():
    assert cut(Segment(SENTENCE[:-1], "The", SENTENCE[:-1]), 1.0, 0.6) == []
    assert cut(Segment(SENTENCE, "The", SENTENCE[:-1]), 1.0, 0.6) == []


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


def test_a_length_is_told_in_characters():
    assert too_short(Segment(SENTENCE, "He said that.", SENTENCE), 1.0, 0.6) == [
        f"11 characters, {len(''.join(SENTENCE.split()))} in the reference"
    ]


def test_lines_without_spaces_between_words_may_differ_less():
    reference = "彼はきのう東京の友人に長い手紙を書いた。"
    assert too_short(Segment("He wrote.", "彼は。", reference), 2.0, 0.6)
    assert too_short(Segment("He wrote.", reference[:-4], reference), 2.0, 0.6) == []


def test_languages_differ_in_their_characters():
    assert characters_per_source(["abcd ef", "gh"], ["ab c", "d"]) == 0.5
    assert characters_per_source([""], [""]) == 0


@pytest.mark.parametrize(
    ("text", "translation", "found"),
    [
        ("Siehe www.Test.de.", "See www.test.de!", []),
        ("Siehe www.test.de.", "See www.tests.de.", ["www.test.de", "+www.tests.de"]),
        ("(http://a.org/b_c?d=1)", "[http://a.org/b_c?d=1]", []),
        ("Mail an a.b@c.org.", "Mail to a.b@c.org", []),
        ("Mail an a.b@c.org.", "Mail to us", ["a.b@c.org"]),
        ("ftp://x.y zweimal: ftp://x.y", "ftp://x.y once", ["ftp://x.y"]),
        ("See https://a.org/.", "詳細はhttps://a.org/をご参照ください。", []),
        ("Mail a@b.org.", "メールはa@b.orgまで。", []),
        ("See https://a.org.", "자세한 내용은 https://a.org에서 확인하세요.", []),
        ("See https://a.org/b.", "詳細はhttps://a.org/cをご参照ください。", ["https://a.org/b", "+https://a.org/c"]),
    ],
)
def test_changed_addresses_are_found(text, translation, found):
    assert changed_addresses(Segment(text, translation, text)) == found


@pytest.mark.parametrize(
    ("text", "translation", "found"),
    [
        ("<b>fett</b>", "<b>bold</b>", []),
        ("<b>fett</b>", "<b>bold", ["</b>"]),
        ("<br/>a", "<br />a", []),
        ("{0} von {total}", "{0} of {all}", ["{total}", "+{all}"]),
        ("%d Dateien, %s", "%s files", ["%d"]),
        ("50 % der", "50% of", []),
        ("Don't", "Don&#39;t", ["+&#39;"]),
        ("a < b und c > d", "a < b and c > d", []),
    ],
)
def test_changed_tags_are_found(text, translation, found):
    assert changed_tags(Segment(text, translation, text)) == found


def test_what_the_reference_leaves_out_too_is_not_lost():
    assert changed_tags(Segment("<i>a</i>", "a", "a")) == []
    assert changed_addresses(Segment("www.a.de", "a", "a")) == []


def test_what_source_or_reference_has_is_not_invented():
    assert changed_addresses(Segment("www.a.de", "www.a.de", "a")) == []
    assert changed_addresses(Segment("a", "www.a.de", "www.a.de")) == []
    assert garbled(Segment("⁇", "⁇", "a")) == garbled(Segment("a", "⁇", "⁇")) == []


@pytest.mark.parametrize(
    ("source", "translation", "found"),
    [
        ("Antonín", "AntonÃ3n came", ["AntonÃ3n"]),
        ("Šumperk", "in Ã...umperk", ["Ã...umperk"]),
        ("Ärger", "Ärger in São Paulo", []),
        ("Das", "Itâ€™s", ["Itâ€™s"]),
        ("x", "a \ufffd b", ["\ufffd"]),
        ("x", "a ⁇ b", ["⁇"]),
        ("x", "wo@@ rd", ["wo@@"]),
        ("a@b.de", "a@b.de", []),
        ("⁇", "⁇", []),
    ],
)
def test_broken_characters_are_found(source, translation, found):
    assert garbled(Segment(source, translation, source)) == found


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
        ("haha", "hahahaha", ["hahahaha"]),
        ("Salz", "salt and pepper salt and pepper", ["salt and pepper (2 times)"]),
        ("hahahahaha", "hahahahaha", []),
        ("1000000", "1000000", []),
        ("葡萄园", "葡萄葡萄园", ["葡 萄 (2 times)"]),
        ("various", "いろいろな問題がますます少しずつ少しずつ", []),
        ("loop", "いろいろいろいろいろ", ["い ろ (5 times)"]),
        ("the USA", "アメリカ合衆国は広く、アメリカ合衆国には五十の州があり、アメリカ合衆国の首都は", []),
        ("no", "नहीं नहीं नहीं", ["नहीं (3 times)"]),
        ("haha", "हाहाहाहाहा", ["हाहाहाहाहा"]),
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


def test_phrases_that_overlap_count_once():
    assert _most_phrases(("a b " * 6).split(), 6) == (2, ("a", "b") * 3)


def test_what_the_reference_repeats_is_no_loop():
    assert loops(Segment("Nein.", "no, no, no, no", "no, no, no, no"), 2) == []


@pytest.mark.parametrize("seed", range(50))
def test_longest_run_is_that_of_a_naive_search(seed):
    generator = random.Random(seed)
    units = generator.choices("ab" if seed % 2 else "abc", k=generator.randint(0, 14))
    naive = max(
        (
            count
            for start in range(len(units))
            for period in range(1, len(units) + 1)
            for count in range(1, len(units) + 1)
            if units[start : start + period] * count == units[start : start + period * count]
            and start + period * count <= len(units)
        ),
        default=1,
    )
    assert longest_run(units, counts=bool)[0] == naive
