"""TIE-KD's passes over a batch, beside passes written out with whole models."""

import pytest
import torch

from nemo_distill.losses import KLDivergenceLoss, TopOneRankingLoss, fused
from tests.models.test_on_policy import build

PAD = 3
PASSES = 3


@pytest.fixture
def config(distillation_config):
    """TIE-KD's losses at T = 2, a loss on hidden states, and the student's own."""
    cfg = distillation_config
    ranking = {"_target_": "nemo_distill.losses.TopOneRankingLoss", "weight": 0.5, "k": 3}
    cfg.distillation.update({"distill_encoder": False, "cosine_loss_weight": 0.25, "iterations": PASSES})
    cfg.distillation.loss.ranking = ranking
    return cfg


def batch_of(model):
    batches = ([tensor.squeeze(0) for tensor in batch] for batch in model.train_dataloader())
    return next(batch for batch in batches if (batch[4] == PAD).any() and (batch[1] == 0).any())


def written_out(model, batch):
    """The losses of TIE-KD, one whole forward of both models after the other."""
    src, src_mask, tgt, tgt_mask, labels = batch
    real = labels != PAD
    losses = {"primary": 0.0, "ranking": 0.0}
    for number in range(PASSES):
        logits = {}
        for role, one in (("teacher", model.teacher), ("student", model.student)):
            states = one.encoder(input_ids=src, encoder_mask=src_mask)
            decoded = one.decoder(
                input_ids=tgt, decoder_mask=tgt_mask, encoder_embeddings=states, encoder_mask=src_mask
            )
            logits[role] = one.log_softmax.mlp.layer0(decoded)
        student, teacher = ((logits[role] / 2.0).log_softmax(-1)[real] for role in ("student", "teacher"))
        for name, loss in (("primary", KLDivergenceLoss()), ("ranking", TopOneRankingLoss(k=3))):
            losses[name] += 4.0 * loss.per_token(student, teacher.detach()).mean() / PASSES
        if number == 0:
            log_probs = logits["student"].log_softmax(-1)
            losses["student"] = -log_probs.gather(-1, labels[..., None])[..., 0][real].mean()
        words = logits["student"][..., : model.student.decoder_tokenizer.vocab_size].argmax(-1)
        tgt = torch.cat((tgt[:, :1], words[:, :-1]), dim=1)
    return losses


def gradients(model, total):
    model.zero_grad()
    total.backward()
    return {name: p.grad.clone() for name, p in model.student.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("fuse", [True, False])
def test_passes_agree_with_passes_written_out(config, fuse, tmp_path, monkeypatch):
    config.distillation.fused = fuse
    model = build(config, tmp_path).eval()
    batch = batch_of(model)
    evaluated, evaluate = [], fused._Objective.evaluate
    monkeypatch.setattr(fused._Objective, "evaluate", lambda *args: evaluated.append(1) or evaluate(*args))
    runs = []
    for one in (model.teacher, model.student):
        one.encoder.encoder.register_forward_hook(lambda *_, who=one: runs.append(who))
    found = model.distillation_losses(batch)
    assert runs == [model.teacher, model.student]  # once each
    ours = gradients(model, found["primary"] + 0.5 * found["ranking"] + 0.5 * found["student"])
    assert len(evaluated) == (PASSES if fuse else 0)  # the backward pass repeats none of them
    expected = written_out(model, batch)
    assert set(found) == {*expected, "cosine"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)
    theirs = gradients(model, expected["primary"] + 0.5 * expected["ranking"] + 0.5 * expected["student"])
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-6)
    model.student.distillation_passes = 1
    single = model.distillation_losses(batch)
    assert all(torch.equal(single[name], found[name]) for name in ("cosine", "student"))
    assert not torch.allclose(single["primary"], found["primary"], rtol=1e-3)


def test_padding_changes_no_pass(config, tmp_path):
    model = build(config, tmp_path).eval()
    batch = batch_of(model)
    wider = [
        torch.nn.functional.pad(tensor, (0, 3), value=value) for tensor, value in zip(batch, (PAD, 0, PAD, 0, PAD))
    ]
    found, padded = model.distillation_losses(batch), model.distillation_losses(wider)
    for name in ("primary", "ranking"):
        torch.testing.assert_close(padded[name], found[name], rtol=1e-4, atol=1e-6)


def test_passes_read_one_noisy_source_and_own_translations_alike(config, tmp_path):
    config.distillation.noise = {"word_dropout": 0.5}
    config.distillation.on_policy = {"share": 0.5, "max_delta": 2}
    model = build(config, tmp_path)
    drawn = next(step for step in range(100) if model.student._on_policy.is_drawn(step))
    own, terms, _ = model.step_inputs(batch_of(model), drawn)
    losses = model.distillation_losses(own, drawn, terms)
    assert set(losses) == {"primary", "ranking", "cosine"} and all(value.isfinite() for value in losses.values())
    assert all(value.isfinite().all() for value in gradients(model, terms.weighted_sum(losses)).values())


def test_several_teachers_read_the_students_words(config, teacher_path, tmp_path):
    config.distillation.loss.pop("cosine")
    one = build(config, tmp_path).eval()
    config.distillation.model_path = [str(teacher_path)] * 2
    several = build(config, tmp_path).eval()
    batch = batch_of(one)
    expected, found = one.distillation_losses(batch), several.distillation_losses(batch)
    for name in ("primary", "ranking"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)
