import gzip

import pytest

from nemo_distill.failures import training_text
from nemo_distill.failures.segment import Segment
from nemo_distill.failures.training_text import (
    answers,
    copied,
    copied_span,
    made_up_words,
    memorised,
    questions,
    untranslated,
)

SPAN = 4


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    files = {
        "train.de": "Der Hund bellt.\n" + "Das Zuckerl schmeckt.\n" * 12 + "Ein Hof.\n",
        "train.en": "The dog barks.\n" + "The sweet tastes good to everybody here.\n" * 12 + "Caf\u00e9 Hof.\n",
        "words": "brushcutter\n",
    }
    for name, content in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    return {side: [folder / f"{name}.gz"] for side, name in zip(("sources", "targets", "word_lists"), files)}


def known(text, tmp_path, *segments):
    return answers(questions(segments, SPAN), text, SPAN, tmp_path / "answers.json")


@pytest.mark.parametrize(
    ("translation", "found"),
    [
        ("The DOG barks", []),
        ("The dogs and Hunde bark", []),  # a plural of a known word, and one of the source
        ("The stiffending tastes", ["stiffending"]),
        ("The xyz tastes", []),  # too short to tell
        ("A brushcutter", []),  # in a word list
        ("Red brushcutters", []),
        ("The zyxw tastes", ["zyxw"]),
        ("The Rennsteigshuttle", []),  # the source has it with a hyphen
        ("The Boishheimer", []),  # a name in another form
        ("这是一个什么东西", []),
    ],
)
def test_words_that_no_text_has_are_made_up(text, tmp_path, translation, found):
    segment = Segment("Hunde im Rennsteig-Shuttle, Boisheimer", translation, "Dogs in a bus bark and")
    assert made_up_words(segment, known(text, tmp_path, segment)) == found


@pytest.mark.parametrize(
    ("translation", "reference", "found"),
    [
        ("One Zuckerl", "One sweet", ["zuckerl"]),
        ("One Zuckerl", "One Zuckerl", []),
        ("One Zuckerl", "One Zuckerls", []),  # the reference has the name in a similar form
        ("One Hof", "One court", []),  # the training text has it on the target side too
        ("One Hund", "One dog", []),  # too rare to know
    ],
)
def test_words_of_the_source_language_are_untranslated(text, tmp_path, translation, reference, found):
    segment = Segment("Ein Zuckerl, ein Hof, ein Hund", translation, reference)
    assert untranslated(segment, known(text, tmp_path, segment)) == found


@pytest.mark.parametrize(
    ("line", "lines", "target", "found"),
    [
        ("Ein Zuckerl", 10, "A sweet", ["zuckerl"]),
        ("Ein Zuckerl", 9, "A sweet", []),
        ("Zuckerl, Zuckerl", 9, "A sweet", []),
        ("Ein Zuckerl", 10, "A Zuckerl", []),
    ],
)
def test_a_source_word_is_known_from_ten_lines_unless_a_target_has_it(line, lines, target, found, tmp_path):
    text = {side: [tmp_path / side] for side in ("sources", "targets", "word_lists")}
    (tmp_path / "word_lists").write_text("Zuckerl\n")
    (tmp_path / "sources").write_text(f"{line}\n" * lines)
    (tmp_path / "targets").write_text(f"{target}\n")
    segment = Segment("Ein Zuckerl", "One Zuckerl", "One sweet")
    assert untranslated(segment, known(text, tmp_path, segment)) == found


def test_the_last_words_of_a_training_target_are_a_span_too(text, tmp_path):
    segment = Segment("Gut.", "Something good to everybody here", "Good.")
    assert copied_span(segment, known(text, tmp_path, segment), SPAN) == ["train.en.gz:2"]


def test_copies_of_training_targets_say_where_they_stand(text, tmp_path):
    segment = Segment("Alles ist gut.", "The sweet tastes good to everybody here!", "All is well.")
    found = known(text, tmp_path, segment)
    assert memorised(segment, found, 7) == ["train.en.gz:2"]
    assert memorised(segment, found, 8) == []
    assert memorised(Segment("", segment.translation, segment.translation), found, 7) == []
    assert copied_span(segment, found, SPAN) == ["train.en.gz:2"]
    assert copied_span(Segment("", "The sweet tastes bad to everybody here", ""), found, SPAN) == []
    assert copied_span(Segment("", segment.translation, segment.translation), found, SPAN) == []


def test_the_text_is_read_once_for_the_same_questions(text, tmp_path, monkeypatch):
    segment = Segment("Ein", "A stiffending", "A thing")
    first = known(text, tmp_path, segment)
    monkeypatch.setattr(training_text, "_read", lambda *arguments: pytest.fail("it was read again"))
    assert known(text, tmp_path, segment) == first


def test_other_questions_are_answered_anew(text, tmp_path):
    known(text, tmp_path, Segment("Ein", "A stiffending", "A thing"))
    segment = Segment("Ein", "A hourruit", "A thing")
    assert made_up_words(segment, known(text, tmp_path, segment)) == ["hourruit"]


@pytest.mark.parametrize(
    ("source", "translation", "reference", "is_copy"),
    [
        ("Brand in Tempelhofer Keller", "Brand in Tempelhofer keller.", "Fire in a cellar", True),
        ("Brand im Keller", "Fire in a cellar", "Fire in the cellar", False),
        ("Brand im Keller", "Brand im Keller", "Fire in a cellar", True),
        (
            "Palgrave Studies im Keller",
            "Palgrave Studies im Keller",
            "Palgrave Studies in cellars",
            True,
        ),  # half is kept
        ("Palgrave, Economic Studies 5", "Palgrave, Economic Studies 5", "Palgrave, Economic Studien 5", False),
        ("Der Spiegel", "Der Spiegel", "The mirror", False),  # too short: a name
    ],
)
def test_a_translation_that_is_its_source_is_a_copy(source, translation, reference, is_copy):
    assert copied(Segment(source, translation, reference)) == ([translation] if is_copy else [])
