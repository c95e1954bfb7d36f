import dataclasses

import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.config.section import read_section
from nemo_distill.models.distillation_section import Initialization
from nemo_distill.models.initialization import copied_layers, initialization_problems
from tests.conftest import tiny_config

ALL = Initialization()


@pytest.mark.parametrize(
    ("rule", "student", "teacher", "expected"),
    [
        ("uniform", 3, 6, [2, 4, 6]),
        ("first", 3, 6, [1, 2, 3]),
        ("last", 3, 6, [4, 5, 6]),
        ([6, 1, 2], 3, 6, [6, 1, 2]),
        (None, 3, 6, []),
    ],
)
def test_layers_are_chosen_by_rule_or_by_name(rule, student, teacher, expected):
    assert copied_layers("encoder", rule, student, teacher) == expected


def side(**changes):
    return {
        "hidden_size": 16,
        "inner_size": 32,
        "num_attention_heads": 2,
        "hidden_act": "relu",
        "num_layers": 2,
    } | changes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_size": 8}, "copies from the teacher's encoder, which has hidden_size=16; the student has 8; "),
        ({"inner_size": 64}, "has inner_size=32; the student has 64"),
        ({"num_attention_heads": 4}, "has num_attention_heads=2; the student has 4"),
        ({"pre_ln": True}, "has pre_ln=None; the student has True"),
        (
            {"num_layers": 5},
            "initialization.encoder=uniform: the student's 5 layers outnumber the teacher's 2",
        ),
    ],
)
def test_what_cannot_be_copied_is_refused_with_the_reason(changes, sentence):
    student, teacher = {"encoder": side(**changes), "decoder": side()}, {"encoder": side(), "decoder": side()}
    (problem,) = initialization_problems(ALL, student, teacher)
    assert problem.startswith("model.distillation.initialization") and sentence in problem


def test_learned_positions_are_copied_if_there_are_as_many():
    student, teacher = (
        {name: side(learn_positional_encodings=learned, max_sequence_length=length) for name in ("encoder", "decoder")}
        for learned, length in ((True, 32), (True, 64))
    )
    problems = initialization_problems(ALL, student, teacher)
    assert len(problems) == 2 and "has max_sequence_length=64; the student has 32" in problems[0]
    fixed = [{name: one[name] | {"learn_positional_encodings": False} for name in one} for one in (student, teacher)]
    assert initialization_problems(ALL, *fixed) == []
    assert initialization_problems(Initialization(embeddings=False), student, teacher) == []


@pytest.mark.parametrize("rule", [3, [1.5, 2], {"a": 1}, True])
def test_a_rule_that_is_neither_a_word_nor_a_list_is_told(rule):
    (problem,) = read_section(Initialization, {"encoder": rule}, "initialization")[1]
    assert problem.startswith("initialization.encoder") and "uniform, first, last" in problem


def test_a_key_that_is_false_and_one_that_is_missing_are_the_same():
    assert (
        initialization_problems(
            ALL, {"encoder": side(pre_ln=False), "decoder": side()}, {"encoder": side(), "decoder": side()}
        )
        == []
    )


@pytest.fixture
def deep_teacher(tokenizer, tmp_path):
    torch.manual_seed(5)
    path = tmp_path / "deep.nemo"
    DistillableMTEncDecModel(tiny_config(tokenizer, seed_size={"num_layers": 4, "pre_ln": True})).save_to(str(path))
    return path


def distil(distillation_config, deep_teacher, initialization, num_layers=2):
    for name in ("encoder", "decoder"):
        distillation_config[name].num_layers = num_layers
        distillation_config[name].pre_ln = True
    distillation_config.distillation.model_path = str(deep_teacher)
    distillation_config.distillation.distilbert_initialization = True
    distillation_config.distillation.initialization = initialization
    return DistillationModelPT(distillation_config, model_class=DistillableMTEncDecModel)


def same(ours, theirs):
    return all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_every_nth_layer_embeddings_and_head_are_the_teachers_and_recorded(distillation_config, deep_teacher):
    model = distil(distillation_config, deep_teacher, dataclasses.asdict(ALL))
    student, teacher = model.student, model.teacher
    for name in ("encoder", "decoder"):
        ours, theirs = getattr(getattr(student, name), name), getattr(getattr(teacher, name), name)
        assert same(ours.layers[0], theirs.layers[1]) and same(ours.layers[1], theirs.layers[3])
        assert same(ours.final_layer_norm, theirs.final_layer_norm)
        assert same(getattr(student, name).embedding, getattr(teacher, name).embedding)
    assert same(student.log_softmax, teacher.log_softmax)
    record = OmegaConf.to_container(student.cfg.distilled_with.initialized_from_teacher)
    assert record == {"encoder": [2, 4], "decoder": [2, 4], "embeddings": True}


def test_a_student_as_deep_as_its_teacher_starts_as_its_teacher(distillation_config, deep_teacher):
    model = distil(distillation_config, deep_teacher, dataclasses.asdict(ALL), num_layers=4)
    sentences = ["der Hund sieht", "rot Haus"]
    assert model.student.eval().translate(sentences) == model.teacher.translate(sentences)


def test_what_is_not_asked_for_is_not_copied(distillation_config, deep_teacher):
    model = distil(distillation_config, deep_teacher, {"encoder": [4, 1], "decoder": None, "embeddings": False})
    student, teacher = model.student, model.teacher
    assert same(student.encoder.encoder.layers[0], teacher.encoder.encoder.layers[3])
    assert not same(student.decoder.decoder.layers[0], teacher.decoder.decoder.layers[1])
    assert not same(student.encoder.embedding, teacher.encoder.embedding)


def test_it_never_degrades_to_something_else(distillation_config, deep_teacher):
    distillation_config.encoder.inner_size = 64
    with pytest.raises(ConfigurationError, match="inner_size=32; the student has 64"):
        distil(distillation_config, deep_teacher, dataclasses.asdict(ALL))
