"""A training step whose losses are fused is the plain step, without the log-probabilities."""

import pytest
import torch

from nemo_distill import DistillableMTEncDecModel
from tests.conftest import tiny_config
from tests.models.conftest import distillation_of


@pytest.fixture
def build(distillation_config, tmp_path):
    """Makes the pair of a config, whose heads count how often they are run."""

    def build(fused):
        distillation_config.distillation.fused = fused
        model = distillation_of(distillation_config, tmp_path).eval()
        model.heads_run = []
        for translator in (model.student, *model.teachers):
            translator.log_softmax.register_forward_hook(lambda *_, who=translator: model.heads_run.append(who))
        return model

    return build


def losses_and_gradients(model, step=0):
    batch = next(iter(model.train_dataloader()))
    losses = model.distillation_losses(batch, step)
    weights = {term.name: term.weight.at(step) for term in model.loss_terms} | {
        "student": model.student_weight.at(step)
    }
    sum(weights[name] * value for name, value in losses.items()).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same_step(build, names):
    """Fused, with no head run at all, and plain."""
    found, expected = build(fused=True), build(fused=False)
    (losses, gradients), (plain, plain_gradients) = losses_and_gradients(found), losses_and_gradients(expected)
    assert set(losses) == set(plain) == names
    for name, value in plain.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-5, abs=1e-6)
    assert set(gradients) == set(plain_gradients)
    assert all(torch.allclose(gradients[name], value, atol=1e-6) for name, value in plain_gradients.items())
    assert found.heads_run == [] and expected.heads_run


def test_a_fused_step_is_the_plain_one(build, distillation_config):
    distillation_config.label_smoothing = 0.1
    assert_same_step(build, {"primary", "cosine", "cosine_encoder", "student"})


def test_several_teachers_are_averaged(build, distillation_config, tokenizer, tmp_path):
    torch.manual_seed(2)
    DistillableMTEncDecModel(tiny_config(tokenizer)).save_to(str(tmp_path / "second.nemo"))
    section = distillation_config.distillation
    section.model_path = [section.model_path, str(tmp_path / "second.nemo")]
    section.teacher_weights = [1, 3]
    section.distill_encoder = False
    del section.loss["cosine"]
    assert_same_step(build, {"primary", "student"})


def test_a_teacher_may_run_in_bf16(build, distillation_config):
    exact = losses_and_gradients(build(fused=True))[0]
    distillation_config.distillation.teacher_precision = "bfloat16"
    for fused in (True, False):
        model = build(fused)
        losses, gradients = losses_and_gradients(model)
        assert {parameter.dtype for parameter in model.teacher.parameters()} == {torch.bfloat16}
        assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
        for name, value in losses.items():
            assert value.item() == pytest.approx(exact[name].item(), rel=0.02)
        assert losses["primary"] != exact["primary"]


def test_the_students_own_loss_alone_is_fused_too(build, distillation_config):
    distillation_config.distillation.loss.primary.weight = distillation_config.distillation.loss.cosine.weight = 0.0
    assert_same_step(build, {"student"})


def test_without_losses_on_distributions_nobody_projects(build, distillation_config, monkeypatch):
    distillation_config.distillation.update({"student_train_loss_weight": 0.0, "distillation_loss_weight": 0.0})
    model = build(fused=True)
    for translator in (model.student, model.teacher):
        monkeypatch.setattr(translator.log_softmax.mlp.layer0, "forward", None)
    assert set(losses_and_gradients(model)[0]) == {"cosine", "cosine_encoder"}


def test_a_loss_that_reads_log_probs_by_name_gets_them_and_so_does_the_students_own(build, distillation_config):
    section = distillation_config.distillation
    section.loss.primary._target_ = "nemo_distill.losses.SelectiveDistillationLoss"
    models = build(fused=True), build(fused=False)
    (losses, gradients), (plain, plain_gradients) = (losses_and_gradients(model) for model in models)
    assert losses == plain
    assert all(torch.equal(gradients[name], value) for name, value in plain_gradients.items())
    for model in models:
        assert sorted(map(id, model.heads_run)) == sorted(map(id, (model.teacher, model.student)))


def test_fused_and_plain_losses_may_stand_side_by_side(build, distillation_config):
    target = "nemo_distill.losses.SelectiveDistillationLoss"
    distillation_config.distillation.loss.hard = {"_target_": target, "weight": 0.5}
    (losses, gradients), (plain, plain_gradients) = (losses_and_gradients(build(fused)) for fused in (True, False))
    assert set(losses) == set(plain) == {"primary", "hard", "cosine", "cosine_encoder", "student"}
    assert all(torch.allclose(gradients[name], value, atol=1e-6) for name, value in plain_gradients.items())
