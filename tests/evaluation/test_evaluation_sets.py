import gzip
from dataclasses import replace

import pytest
from sacrebleu.dataset import DATASETS

from nemo_distill.config.section import read_value
from nemo_distill.evaluation import evaluation_sets
from nemo_distill.evaluation.evaluation_sets import (
    EvaluationSet,
    SetSection,
    set_name_problems,
    with_languages,
)
from nemo_distill.text import languages


def read_evaluation_sets(sections):
    """The test sets of a config, and all problems."""
    found, problems = read_value(dict[str, SetSection], sections, "test_sets")
    problems += set_name_problems(sections)
    return [one.test_set(name) for name, one in found.items()] if not problems else [], problems


@pytest.fixture
def files(tmp_path):
    (tmp_path / "test.de").write_bytes(b"eins\n\nzwei \xff\xe2\x80\xa8drei\r\n")
    (tmp_path / "test.en").write_text("one\n\nthree\n")
    (tmp_path / "short.en").write_text("one\n")
    return tmp_path


def test_each_line_of_a_pair_of_files_stays_one_line(files):
    with gzip.open(files / "test.de.gz", "wb") as stream:
        stream.write((files / "test.de").read_bytes())
    for source in ("test.de", "test.de.gz"):
        (one,), problems = read_evaluation_sets(
            {"mine": {"source": str(files / source), "reference": str(files / "test.en")}}
        )
        assert problems == []
        assert one.read() == (["eins", "", "zwei \ufffd drei"], ["one", "", "three"])


def test_a_sentence_can_have_several_references(files):
    (files / "other.en").write_text("1\n\n3\n")
    section = {"source": str(files / "test.de"), "reference": [str(files / "test.en"), str(files / "other.en")]}
    (one,), problems = read_evaluation_sets({"a": section})
    assert problems == []
    assert one.references == {"ref": files / "test.en", "ref2": files / "other.en"}
    section["reference"][1] = str(files / "short.en")
    assert "short.en' has 1; they must be parallel" in read_evaluation_sets({"a": section})[1][0]
    section["reference"][1] = str(files / "test.de")
    assert "test.de' is source and reference" in read_evaluation_sets({"a": section})[1][0]


def test_a_set_in_sacrebleus_cache_goes_by_its_name_and_pair(tmp_path, monkeypatch):
    monkeypatch.setattr(DATASETS["wmt14"], "_outdir", str(tmp_path))
    for field in DATASETS["wmt14"].fieldnames("de-en"):
        (tmp_path / f"wmt14.de-en.{field}").write_text(f"{field} one\n{field} two\n")
    (one,), problems = read_evaluation_sets({"wmt14": {"sacrebleu": "wmt14", "pair": "de-en"}})
    assert problems == [] and one.language == "en"
    assert one.read() == (["src one", "src two"], ["ref one", "ref two"])


def test_a_set_that_cannot_be_fetched_is_told_with_the_command_that_fetches_it(monkeypatch):
    def fail(name, pair):
        raise OSError("no route")

    monkeypatch.setattr(evaluation_sets, "get_reference_files", fail)
    _, (problem,) = read_evaluation_sets({"a": {"sacrebleu": "wmt14", "pair": "de-en"}})
    assert "could not be fetched (no route)" in problem and "sacrebleu --download wmt14 -l de-en" in problem


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"source": "test.de"}, "has source and reference, or sacrebleu and pair; this one has source"),
        ({"source": "none.de", "reference": "test.en"}, "test_sets.a.source names"),
        ({"source": "test.de", "reference": "short.en"}, "they must be parallel"),
        ({"sacrebleu": "wmt99", "pair": "de-en"}, "test_sets.a.sacrebleu=wmt99: sacrebleu knows"),
        ({"sacrebleu": "wmt14", "pair": "de-xx"}, "test_sets.a.pair=de-xx: sacrebleu has wmt14 for"),
        ({"source": "*.de", "reference": "test.en"}, "must be one file; it names 2."),
        (
            {"source": "test.de", "reference": "test.en", "language": "jp"},
            "test_sets.a.language=jp: no language has this code",
        ),
        ({"sourse": "test.de"}, "the closest known key is 'source'"),
    ],
)
def test_mistakes_are_told(files, section, sentence):
    (files / "other.de").write_text("more\n")
    values = {key: str(files / value) if value.endswith((".de", ".en")) else value for key, value in section.items()}
    _, problems = read_evaluation_sets({"a": values})
    assert sentence in problems[0]


def test_a_language_that_needs_a_package_is_told_before_anything_is_translated(files, monkeypatch):
    monkeypatch.setattr(languages, "_is_installed", lambda tokenizer: False)
    section = {"source": str(files / "test.de"), "reference": str(files / "test.en"), "language": "ja"}
    assert read_evaluation_sets({"a": section})[1] == [
        "test_sets.a.language=ja: BLEU by ja-mecab needs pip install 'sacrebleu[ja]'."
    ]


@pytest.fixture
def sets(files):
    """A set without a language, one of English, and one in Chinese that does not say so."""
    (files / "test.zh").write_text("我喜欢狗。\n", encoding="utf-8")
    return [
        EvaluationSet("a", files / "test.de", files / "test.en"),
        EvaluationSet("b", files / "test.de", files / "test.en", "en"),
        EvaluationSet("c", files / "test.de", files / "test.zh"),
    ]


@pytest.mark.parametrize(
    ("written", "language"),
    [
        ({"teacher": "zh", "student": "zh"}, "zh"),
        ({"teacher": None, "student": "zh"}, "zh"),
        ({"teacher": "zh", "export": "zho_Hans"}, "zh"),
        ({"teacher": "en", "student": "de"}, "en"),  # which BLEU treats alike
        ({"teacher": None}, None),
    ],
)
def test_a_set_without_a_language_has_that_of_the_models(sets, written, language):
    (found,), problems = with_languages(sets[:1], written)
    assert (found.language, problems) == (language, [])


@pytest.mark.parametrize("written", [None, "en"])
def test_references_without_spaces_say_what_they_are_where_the_models_do_not(sets, written):
    (found,), problems = with_languages(sets[2:], {"teacher": written})
    assert (found.language, problems) == ("zh", [])


def test_a_set_without_a_language_is_refused_where_models_write_different_ones(sets):
    _, (problem,) = with_languages(sets[:2], {"teacher": "zh", "other": "en"})
    told = "is missing, and the models write different ones: teacher zh, other en."
    assert problem == f"test_sets.a.language {told}"
    _, problems = with_languages(sets[:1], {"teacher": "zh", "other": "en"}, section="test")
    assert problems == [f"test.language {told}"]


def test_a_set_of_another_language_than_models_or_text_is_warned_of(sets, monkeypatch):
    said = []
    monkeypatch.setattr(evaluation_sets.console, "warning", said.append)
    assert with_languages(sets[1:2], {"teacher": "de"}) == (sets[1:2], []) and not said
    assert with_languages(sets[1:2], {"teacher": "zh", "student": None}) == (sets[1:2], [])
    wrong = [replace(sets[2], language="en")]
    assert with_languages(wrong, {"teacher": None}) == (wrong, [])
    wrong = [replace(sets[2], language="ja")]
    assert with_languages(wrong, {"teacher": None}) == (wrong, [])
    assert said == [
        "test_sets.b is scored as language=en; the models write teacher zh.",
        "test_sets.c is scored as language=en; its references look like zh.",
        "test_sets.c is scored as language=ja; its references look like zh.",
    ]


def test_a_name_that_is_no_file_name_is_told():
    _, problems = read_evaluation_sets({"a/b": {"source": "x", "reference": "y"}})
    assert any(problem.startswith("test_sets.a/b: a name may have") for problem in problems)
