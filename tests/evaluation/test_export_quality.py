"""What an export costs, and when that is too much."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nemo_distill.config.section import read_section
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.evaluation import export_quality
from nemo_distill.evaluation.export_quality import DevelopmentSet, quality_problems
from nemo_distill.export.record import Quality
from nemo_distill.metrics.scores import Score


def quality(**scores):
    named = {name.replace("_", " "): Score(value, "signed") for name, value in scores.items()}
    return Quality({"name": "val.de", "sha256": "1"}, {"name": "val.en", "sha256": "2"}, 4, named)


def test_the_language_of_references_is_known_if_the_model_names_none(tmp_path):
    for name, line in (("de", "Ich mag deinen Hund."), ("zh", "我喜欢你的狗。")):
        (tmp_path / name).write_text(f"{line}\n")
    to_chinese, to_german = (
        DevelopmentSet(source=str(tmp_path / source), reference=str(tmp_path / target))
        for source, target in (("de", "zh"), ("zh", "de"))
    )
    assert to_chinese.set_for(None).language == "zh" and to_chinese.set_for("ja").language == "ja"
    assert to_german.set_for(None).language is None and to_german.set_for("de").language == "de"


def test_patterns_of_a_development_set_that_match_nothing_are_told(tmp_path):
    found = {"source": f"{tmp_path}/*.de", "reference": f"{tmp_path}/*.en"}
    first, second = DevelopmentSet(**found).problems()
    assert first.startswith("source") and found["source"] in first
    assert second.startswith("reference") and found["reference"] in second


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"float32": 30.0, "export": 29.75}, []),
        ({"float32": 30.0, "export": 31.0}, []),
        ({"float32": 30.0, "export": 29.5}, ["quantization=int8 loses 0.50 BLEU on 'val.de': 29.50 instead of 30.00"]),
        ({"float32": 30.0, "export": 30.0, "batches_of_1": 29.95, "batches_of_32": 30.0}, []),
        ({"float32": 30.0, "export": 30.0, "batches_of_1": 29.0, "batches_of_32": 30.0}, ["The shortlist loses 1.00"]),
        ({"float32": 30.0, "export": 30.0, "batches_of_1": 30.0, "batches_of_32": 29.0}, ["The shortlist loses 1.00"]),
        (
            {"float32": 31.0, "export": 30.0, "batches_of_1": 29.0, "batches_of_32": 29.5},
            ["quantization=int8 loses 1.00", "The shortlist loses 1.00"],
        ),
    ],
)  # fmt: skip
def test_what_loses_more_than_it_may_is_told_with_its_scores(scores, said):
    problems = quality_problems(quality(**scores), "ctranslate2", "int8", 0.3, 0.1)
    assert len(problems) == len(said)
    for problem, beginning in zip(problems, said):
        assert problem.startswith(beginning)


def test_the_limits_are_the_users():
    assert quality_problems(quality(float32=30.0, export=29.0), "ctranslate2", "int8", 1.5, 0.1) == []
    assert quality_problems(quality(float32=30.0, export=29.5), "ctranslate2", "int8", 0.5, 0.1) == []
    (problem,) = quality_problems(quality(float32=30.0, export=29.95), "ctranslate2", "int16", 0.0, 0.1)
    assert "max_loss=0.0" in problem and "float32 loses nothing" in problem


def test_a_loss_of_another_search_is_not_blamed_on_the_weights():
    (problem,) = quality_problems(quality(float32=30.0, export=29.5), "hugging_face", "float32", 0.3, 0.1)
    assert problem.startswith("format=hugging_face loses 0.50 BLEU")
    assert "29.50 by Hugging Face's search instead of 30.00 in float32 by our search" in problem
    assert "quantization=" not in problem


@pytest.mark.parametrize(
    ("p_value", "said"),
    [
        (0.2, "can be chance (p = 0.20): a larger"),
        (0.06, "can be chance (p = 0.06): a larger"),
        (0.01, "more than chance (p = 0.010); the"),
    ],
)
def test_a_loss_is_told_with_its_chance_and_with_the_likelihood(p_value, said):
    measured = replace(
        quality(float32=30.0, export=29.0), p_values={"export": p_value}, nats={"float32": 2.0, "export": 2.003}
    )
    (problem,) = quality_problems(measured, "ctranslate2", "int8", 0.3, 0.1)
    assert said in problem and "the references' likelihood loses 0.0030 nats a token" in problem


def test_an_export_is_compared_with_float32_and_a_shortlist_with_the_export():
    references = [f"the dog number {number} sees a man in the house" for number in range(20)]
    worse = [line.replace("sees a man", "a woman says") for line in references]
    texts = {"float32": references, "export": worse, "shortlist, batches of 1": worse}
    p_values = export_quality._p_values(texts, references, None)
    assert p_values["export"] < 0.01 and p_values["shortlist, batches of 1"] == 1


def test_only_the_measurements_of_a_shortlist_use_it(monkeypatch):
    monkeypatch.setattr(export_quality, "CTranslate2Engine", lambda *_, **options: options)
    record = SimpleNamespace(format="ctranslate2", shortlist="there")
    engines = export_quality._engines(Path("model.nemo"), Path("folder"), record)
    del engines["float32"]
    assert {name: load() for name, load in engines.items()} == {
        "export": {"shortlist": False},
        "shortlist, batches of 1": {"sentences_in_batch": 1},
        "shortlist, batches of 32": {"sentences_in_batch": 32},
    }


class Known(CTranslate2Engine):
    """Returns its sources, and knows what its references cost."""

    def __init__(self):
        pass

    def translate(self, lines, settings):
        self.settings = settings
        return [Translation((Hypothesis(line, 0.0, True),)) for line in lines]

    def totals(self, sources, targets):
        return [(-6.0, 4), (-3.0, 2)]


def test_an_export_is_searched_without_a_length_penalty_and_the_likelihood_is_that_of_a_token(tmp_path, monkeypatch):
    for name in ("de", "en"):
        (tmp_path / name).write_text("ja\nnein\n")
    engine = Known()
    monkeypatch.setattr(export_quality, "_engines", lambda *_: {"float32": lambda: engine, "export": lambda: engine})
    development = DevelopmentSet(source=str(tmp_path / "de"), reference=str(tmp_path / "en"), beam_size=3)
    record = SimpleNamespace(target=SimpleNamespace(language="ignore"))
    measured = export_quality.measure_export(tmp_path / "model.nemo", tmp_path, record, development)
    assert measured.nats == {"float32": 1.5, "export": 1.5}
    assert (engine.settings.beam_size, engine.settings.length_penalty) == (3, 0.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"source": "{corpus}/val.de"}, "development.reference=null"),
        ({"reference": "{corpus}/val.en"}, "development.source=null"),
        ({"source": "{corpus}/no.de", "reference": "{corpus}/val.en"}, "development.source names"),
        ({"source": "{corpus}/val.*", "reference": "{corpus}/val.en"}, "development.source="),
        ({"source": "{corpus}/train.de", "reference": "{corpus}/val.en"}, "development.source: '"),
        ({"source": "{corpus}/val.de", "reference": "{corpus}/val.de"}, "development.source: '"),
        ({"beam_size": 0}, "development.beam_size=0"),
    ],
)
def test_a_set_that_cannot_be_read_is_told_by_its_key(values, said, corpus):
    given = {key: value.format(corpus=corpus) if isinstance(value, str) else value for key, value in values.items()}
    _, problems = read_section(DevelopmentSet, given, "development")
    assert len(problems) == 1 and problems[0].startswith(said), problems
