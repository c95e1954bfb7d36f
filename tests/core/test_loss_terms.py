import pytest
from omegaconf import OmegaConf

from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_section
from nemo_distill.core.distillation_section import DistillationSection
from nemo_distill.core.loss_terms import build_loss_terms, checked_loss_terms

KL = "nemo_distill.losses.KLDivergenceLoss"


def check_distillation(values, registered):
    """All problems of a section, as a job's check finds them."""
    section, problems = read_section(DistillationSection, values, "distillation")
    return problems or checked_loss_terms(section, section.loss, registered)[1]


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        (
            {"_target_": "os.system"},
            "._target_=os.system: must begin with nemo_distill.losses.",
        ),
        ({"_target_": "nemo_distill.losses.Nothing"}, "cannot be imported"),
        ({}, "._target_ has no value"),
        (
            {"_target_": KL, "log_prob": "x"},
            " has the unknown key 'log_prob'; the closest known key is 'log_probs'",
        ),
        ({"_target_": KL, "weight": -1}, ".weight=-1: must be a number of at least 0"),
        ({"_target_": KL, "weight": "much"}, ".weight=much: must be"),
        ({"_target_": KL, "weight": {"schedule": "step", "start": 1}}, ".weight.schedule=step: must be one of"),
        ({"_target_": KL, "log_probs": "logits"}, "reads 'logits', which the model does not register"),
    ],
)
def test_a_wrong_loss_node_is_told_by_name(node, sentence):
    _, problems = build_loss_terms({"primary": node}, registered=["log_probs"])
    assert len(problems) == 1
    assert problems[0].startswith("distillation.loss.primary") and sentence in problems[0]


def test_weights_of_zero_leave_a_loss_out_and_missing_weights_are_one():
    nodes = {"a": {"_target_": KL}, "b": {"_target_": KL, "weight": 0.0}}
    terms, problems = build_loss_terms(nodes)
    assert [(term.name, term.weight.at(0)) for term in terms] == [("a", 1.0)] and not problems


@pytest.mark.parametrize("name", ["student", "train", "val", "test", "keys", "a.b", "", True])
def test_a_name_that_would_replace_another_loss_or_that_torch_refuses_is_told(name):
    """A loss called `student` was replaced by the student's own."""
    (problem,) = build_loss_terms({name: {"_target_": KL}}, registered=["log_probs"])[1]
    assert problem.startswith(f"distillation.loss has the name '{name}'")


def test_users_own_losses_are_allowed_by_name():
    node = {"own": {"_target_": "torch.nn.Identity"}}
    assert "_target_=torch.nn.Identity: must begin" in build_loss_terms(node)[1][0]
    assert "does not say in `consumes`" in build_loss_terms(node, allowed_targets=["torch.nn."])[1][0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"temperature": 0}, "distillation.temperature=0: must be a number above 0"),
        ({"temperature": float("nan")}, "distillation.temperature=nan"),
        ({"student_train_loss_weight": -0.5}, "distillation.student_train_loss_weight=-0.5"),
        ({"temprature": 2}, "distillation has the unknown key 'temprature'; the closest known key is 'temperature'"),
        ({"loss": {}}, "no loss with a weight above 0"),
        (
            {"compile": "indcutor"},
            "distillation.compile=indcutor: must be null or one of torch.compile's aot_eager, ",
        ),
        ({"compile": True}, "distillation.compile=true: must be null or text"),
    ],
)
def test_a_wrong_distillation_section_is_told_by_key(change, sentence):
    section = {"model_path": "x", "loss": {"primary": {"_target_": KL}}} | change
    problems = check_distillation(section, ["log_probs"])
    assert len(problems) == 1 and sentence in problems[0]


@pytest.mark.parametrize("backend", [None, "inductor", "aot_eager"])
def test_a_right_distillation_section_has_no_problems(backend):
    section = {"model_path": "x", "loss": {"primary": {"_target_": KL}}, "compile": backend}
    assert check_distillation(section, ["log_probs"]) == []


FADING = {"schedule": "linear", "start": 1, "end": 0, "steps": 20}
RISING = {"schedule": "cosine", "start": 0, "end": 1, "steps": 20}


def section(weight, student_weight):
    loss = {"primary": {"_target_": KL, "weight": weight}}
    return {"model_path": "x", "student_train_loss_weight": student_weight, "loss": loss}


@pytest.mark.parametrize("student_weight", [FADING | {"schedule": "cosine", "steps": 30}, 0])
def test_weights_that_all_end_at_zero_are_refused_with_their_keys(student_weight):
    (problem,) = check_distillation(section(FADING, student_weight), ["log_probs"])
    assert f"from step {30 if student_weight else 20} on" in problem
    assert "loss.primary.weight" in problem and ("student_train_loss_weight" in problem) == bool(student_weight)


def test_constant_schedules_of_zero_are_no_loss():
    zero = {"schedule": "constant", "start": 0}
    (problem,) = check_distillation(section(zero, zero), ["log_probs"])
    assert problem == "distillation has no loss with a weight above 0, so there is nothing to train on."


@pytest.mark.parametrize("weights", [(FADING, RISING), (FADING, 0.5), (RISING, 0), (RISING, FADING)])
def test_weights_that_do_not_all_end_at_zero_are_right(weights):
    assert check_distillation(section(*weights), ["log_probs"]) == []


def test_missing_values_of_a_data_section_name_the_way_out():
    (problem,) = check_missing(OmegaConf.create({"model": {"test_ds": {"src_file_name": "???"}}}))
    assert (
        problem == "model.test_ds.src_file_name has no value; give it, or leave the section out with '~model.test_ds'."
    )


def test_an_error_lists_every_problem():
    assert str(ConfigurationError(["a.", "b."])) == "2 problems in the configuration:\n  - a.\n  - b."
