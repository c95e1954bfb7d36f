import re

import pytest

from nemo_distill.demo_corpus import corpus as demo_corpus
from nemo_distill.demo_corpus import lexicon as demo_lexicon
from nemo_distill.demo_corpus.corpus import DemoGrammar, write_demo_corpus
from nemo_distill.demo_corpus.inflection import german_verb


def read(folder, name):
    return (folder / name).read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo_corpus(folder, train=1500, validation=50, test=100, monolingual=200, seed=5)
    return folder


def test_no_sentence_of_either_language_occurs_twice(folder):
    german = [line for name in ("train", "val", "test", "mono") for line in read(folder, f"{name}.de")]
    english = [line for name in ("train", "val", "test") for line in read(folder, f"{name}.en")]
    assert len(german) == len(set(german)) == 1850
    assert len(english) == len(set(english)) == 1650


def test_a_pair_has_about_as_many_bytes_as_is_said(folder):
    size = sum((folder / f"train.{side}").stat().st_size for side in ("de", "en"))
    assert size / 1500 == pytest.approx(demo_corpus.BYTES_PER_PAIR, rel=0.02)


def test_a_seed_gives_the_same_files_and_another_seed_others(folder, tmp_path):
    for seed in (5, 6):
        write_demo_corpus(tmp_path / str(seed), train=1500, validation=50, test=100, monolingual=200, seed=seed)
    for name in ("train.de", "train.en", "val.de", "test.en", "mono.de"):
        assert read(tmp_path / "5", name) == read(folder, name) != read(tmp_path / "6", name)


def test_more_training_text_leaves_the_test_set_as_it_is(folder, tmp_path):
    write_demo_corpus(tmp_path, train=2000, validation=50, test=100, monolingual=0, seed=5)
    assert read(tmp_path, "test.de") == read(folder, "test.de")


@pytest.mark.parametrize(
    "pattern",
    [
        r"(weil|obwohl|während|wenn) ",
        r" dass ",
        r"und(zwanzig|dreißig|vierzig)",
        r" nicht ",
        r"\d\.\d{3} ",
        r"\d,\d ",
        r" halb ",
    ],
)
def test_the_hard_parts_of_german_occur(folder, pattern):
    assert sum(bool(re.search(pattern, line)) for line in read(folder, "train.de")) >= 10


def test_words_have_several_translations_in_their_proportions():
    """`Bild` is picture, painting or image, 6 : 2 : 2."""
    grammar = DemoGrammar(0)
    bild = next(noun for noun in demo_lexicon.THINGS if noun.singular == "Bild")
    drawn = [grammar._pick(bild.english)[0] for _ in range(3000)]
    assert 0.55 < drawn.count("picture") / 3000 < 0.65
    assert 0.15 < drawn.count("image") / 3000 < 0.25


def test_separable_verbs_split_in_main_clauses_and_join_in_subordinate_ones():
    verb = next(verb for verb in demo_lexicon.INTRANSITIVE if verb.prefix == "an")
    subject = demo_corpus.NounPhrase("der Hund", "the dog", 1)
    finite, rest, prefix = german_verb(verb, "present", 1)
    clause = demo_corpus.Clause(subject, finite, rest, prefix, "arrives", None, None, None, "")
    assert clause.german_main("subject") == "der Hund kommt an"
    assert clause.german_main(None) == "kommt der Hund an"
    assert clause.german_subordinate() == "der Hund ankommt"
