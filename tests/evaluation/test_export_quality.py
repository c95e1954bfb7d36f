"""What an export costs, and when that is too much."""

from dataclasses import replace

import pytest

from nemo_distill.config.section import read_section
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
    (problem,) = quality_problems(quality(float32=30.0, export=29.95), "ctranslate2", "int16", 0.0, 0.1)
    assert "max_loss=0.0" in problem and "float32 loses nothing" in problem


def test_a_loss_of_another_search_is_not_blamed_on_the_weights():
    (problem,) = quality_problems(quality(float32=30.0, export=29.5), "hugging_face", "float32", 0.3, 0.1)
    assert problem.startswith("format=hugging_face loses 0.50 BLEU")
    assert "29.50 by Hugging Face's search instead of 30.00 in float32 by our search" in problem
    assert "quantization=" not in problem


@pytest.mark.parametrize(
    ("p_value", "said"), [(0.2, "can be chance (p = 0.20): a larger"), (0.01, "more than chance (p = 0.010); the")]
)
def test_a_loss_is_told_with_its_chance_and_with_the_likelihood(p_value, said):
    measured = replace(
        quality(float32=30.0, export=29.0), p_values={"export": p_value}, nats={"float32": 2.0, "export": 2.003}
    )
    (problem,) = quality_problems(measured, "ctranslate2", "int8", 0.3, 0.1)
    assert said in problem and "the references' likelihood loses 0.0030 nats a token" in problem


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
