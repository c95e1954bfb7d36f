"""The same tokens give the same gradients and logged losses, in however many batches and on however many devices."""

import copy
import itertools

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from omegaconf import OmegaConf

from nemo_distill import DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.models.on_policy import OnPolicy
from nemo_distill.trainer.finite import FiniteTraining
from tests.conftest import NO_DROPOUT, SCRIPTS, composed
from tests.forked import run_script
from tests.models.conftest import distill

TRAIN = """
import sys
import lightning.pytorch as pl
import torch
from omegaconf import OmegaConf
from nemo_distill import DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.core import distillation_model

folder, devices, accumulate = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

class Losses(pl.Callback):
    seen = []
    def on_train_batch_end(self, trainer, model, *args):
        tokens = model.student.distillation_batch_weight(args[1]).item()
        self.seen.append({k: v.item() for k, v in trainer.callback_metrics.items() if k.endswith("_loss")} | {"tokens": tokens})

class Log(pl.loggers.CSVLogger):
    rows = {}
    def log_metrics(self, metrics, step):
        self.rows[step] = metrics

sums, sum_over_devices = [], distillation_model._sum_over_devices
distillation_model._sum_over_devices = lambda value: sums.append(value) or sum_over_devices(value)

pl.seed_everything(0)
trainer = pl.Trainer(accelerator="cpu", devices=devices, strategy="ddp_find_unused_parameters_true" if devices > 1 else "auto",
                     accumulate_grad_batches=accumulate, max_steps=4, log_every_n_steps=2, logger=Log(folder), enable_progress_bar=False,
                     enable_checkpointing=False, num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=folder,
                     callbacks=[Losses()])
model = DistillationModelPT(OmegaConf.load(folder + "/model.yaml"), trainer, model_class=DistillableMTEncDecModel)
trainer.fit(model)
if trainer.global_rank == 0:
    weights = {name: p.detach() for name, p in model.named_parameters()}
    result = {"weights": weights, "seen": Losses.seen, "logged": Log.rows, "sums": len(sums)}
    torch.save(result, f"{folder}/result_{devices}_{accumulate}.pt")
"""


@pytest.fixture
def config(distillation_config):
    """Without dropout and shuffling, by an optimizer that, unlike Adam, does not hide the size of the gradients."""
    cfg = distillation_config
    cfg.train_ds.update({"shuffle": False, "tokens_in_batch": 60})
    cfg.distillation.update({"distill_encoder": False, "cosine_loss_weight": 1.0})
    cfg.optim = {"name": "sgd", "lr": 0.5}
    for side in ("encoder", "decoder"):
        cfg[side].update(NO_DROPOUT)
    return cfg


@pytest.fixture
def train(config, tmp_path):
    OmegaConf.save(config, tmp_path / "model.yaml")
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")

    def run(devices, accumulate):
        arguments = [str(tmp_path), str(devices), str(accumulate)]
        result = run_script(tmp_path / "train.py", *arguments, cwd=tmp_path, devices=devices)
        assert result.returncode == 0, result.stderr
        return torch.load(tmp_path / f"result_{devices}_{accumulate}.pt")

    return run


class Gradients(pl.Callback):
    """Keeps the gradients that the first optimizer step uses."""

    def on_before_zero_grad(self, trainer, model, optimizer):
        if trainer.global_step == 1:
            self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def first_gradients(config, folder, *callbacks, **options):
    gradients = Gradients()
    _, trainer = distill(config, folder, limit_val_batches=0, callbacks=[gradients, *callbacks], **options)
    return gradients.found, trainer


def test_bf16_mixed_gives_nearly_the_same_gradients(config, tmp_path):
    full, _ = first_gradients(config, tmp_path)
    mixed, trainer = first_gradients(config, tmp_path, precision="bf16-mixed")
    assert trainer.callback_metrics["train_loss"].isfinite()
    full, mixed = (torch.cat([value.flatten() for value in found.values()]) for found in (full, mixed))
    assert (mixed - full).norm() < 0.1 * full.norm()


METHODS = sorted(path.stem for path in (SCRIPTS / "conf" / "distillation").glob("*.yaml"))


def distillation_section(method, model_path):
    section = composed("aayn_base_distill", f"distillation={method}").model.distillation
    section.model_path = model_path
    section.mix.corpora = {}  # text that a script would mix
    return section


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_a_clipped_step_in_bf16_mixed(config, method, tmp_path):
    config.distillation = distillation_section(method, config.distillation.model_path)
    found, trainer = first_gradients(config, tmp_path, precision="bf16-mixed", gradient_clip_val=0.01)
    assert torch.cat([value.flatten() for value in found.values()]).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert all(value.isfinite() for value in trainer.callback_metrics.values())


class PaddingAlone(pl.Callback):
    """Makes every label of every batch padding."""

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        batch[-1].fill_(model.student.decoder_tokenizer.pad_id)


def test_a_batch_of_padding_alone_has_no_loss_and_moves_nothing(config, tmp_path):
    model_path = config.distillation.model_path
    for method in ("hidden", "attention"):
        section = distillation_section(method, model_path)
        config.distillation.loss = OmegaConf.merge(config.distillation.loss, section.loss)
    gradients, trainer = first_gradients(config, tmp_path, PaddingAlone())
    assert gradients and not any(value.any() for value in gradients.values())  # nan is true
    logged = {name: value for name, value in trainer.callback_metrics.items() if name.endswith("_loss")}
    assert len(logged) == 9 and not any(logged.values())
    model = trainer.lightning_module
    batch = next(iter(model.train_dataloader()))
    PaddingAlone().on_train_batch_start(trainer, model, batch, 0)
    losses = model.distillation_losses(batch).items()
    assert not any(value for name, value in losses if not name.startswith("encoder"))  # whose mask is the source's


EVERY_LOSS = {
    "cross_entropy": {"_target_": "nemo_distill.losses.CrossEntropyLoss"},
    "reverse_kl": {"_target_": "nemo_distill.losses.ReverseKLDivergenceLoss"},
    "jensen_shannon": {"_target_": "nemo_distill.losses.JensenShannonLoss"},
    "top_one": {"_target_": "nemo_distill.losses.TopOneRankingLoss"},
    "selective": {"_target_": "nemo_distill.losses.SelectiveDistillationLoss", "queue_size": 0},
    "layers": {"_target_": "nemo_distill.losses.MeanSquaredErrorLoss", "hidden_states": "decoder_layers"},
    "states": {"_target_": "nemo_distill.losses.CosineEmbeddingLoss"},
    "encoder_layers": {"_target_": "nemo_distill.losses.MeanSquaredErrorLoss", "hidden_states": "encoder_layers"},
    **{
        name: {"_target_": "nemo_distill.losses.AttentionMapsLoss", "attention_maps": name}
        for name in ("decoder_self_attention", "decoder_cross_attention", "encoder_self_attention")
    },
}


@pytest.fixture
def every_loss(config):
    """All losses at once, by a student that is narrower than its teacher: its states go through learned matrices."""
    for side in ("encoder", "decoder"):
        config[side].hidden_size = 8
    config.distillation.loss = {
        "primary": {"_target_": "nemo_distill.losses.KLDivergenceLoss"},
        **{name: {**node, "weight": 0.5} for name, node in EVERY_LOSS.items()},
    }
    config.label_smoothing = 0.1
    return config


@pytest.fixture
def first_step_of_own_translations(every_loss):
    every_loss.distillation.on_policy = {"share": 0.3, "method": "greedy", "max_delta": 2}
    return OnPolicy(share=0.3)


def test_two_devices_train_as_one_that_accumulates_two_batches(first_step_of_own_translations, train, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    assert [first_step_of_own_translations.is_drawn(step) for step in range(4)] == [True, False, False, False]
    one, two = train(devices=1, accumulate=2), train(devices=2, accumulate=1)
    assert all(torch.allclose(value, two["weights"][name], atol=1e-6) for name, value in one["weights"].items())
    assert list(one["logged"]) == list(two["logged"]) == [1, 3]
    names = {f"{name}_loss" for name in ("primary", *EVERY_LOSS, "student", "train")}
    assert names <= set(two["logged"][3])
    batches = one["seen"][6:8]
    tokens = [batch["tokens"] for batch in batches]
    assert len(set(tokens)) == 2
    for name in names:
        assert one["logged"][3][name] == pytest.approx(batches[1][name])
        of_both = sum(batch[name] * count for batch, count in zip(batches, tokens)) / sum(tokens)
        assert two["logged"][3][name] == pytest.approx(of_both, rel=1e-5)
        assert of_both != pytest.approx(batches[0][name], rel=1e-5)
    # They meet in each of four steps for the gradients, and for the losses in the logged ones alone.
    assert two["sums"] == 4 + 2


def merged(batches, pad_id):
    """One batch (1, B, T) of all sentences of several; of padding alone where some are shorter."""
    parts = [[tensor.squeeze(0) for tensor in batch] for batch in batches]
    joined = []
    for tensors, padding in zip(zip(*parts), (pad_id, 0, pad_id, 0, pad_id)):
        longest = max(tensor.shape[1] for tensor in tensors)
        rows = [torch.nn.functional.pad(t, (0, longest - t.shape[1]), value=padding) for t in tensors]
        joined.append(torch.cat(rows).unsqueeze(0))
    return joined


def test_batches_that_are_accumulated_count_as_one_batch_of_all_their_sentences(every_loss, tmp_path):
    for name in ("selective", "encoder_layers", "encoder_self_attention"):  # which choose and weight by batch
        del every_loss.distillation.loss[name]
    found, trainer = first_gradients(every_loss, tmp_path, accumulate_grad_batches=3)
    pl.seed_everything(0)
    model = DistillationModelPT(every_loss, trainer, model_class=DistillableMTEncDecModel)
    batches = list(itertools.islice(model.train_dataloader(), 3))
    losses = model.distillation_losses(merged(batches, model.student.decoder_tokenizer.pad_id))
    weights = {term.name: term.weight.at(0) for term in model.loss_terms} | {"student": model.student_weight.at(0)}
    sum(weights[name] * value for name, value in losses.items()).backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(found) == set(expected)
    assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in expected.items())


def half_precision(scale):
    """The plugin of precision=16-mixed, which Lightning replaces on a CPU unless it is given; with its loss scale."""
    return MixedPrecision(
        "16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
    )


def norm(gradients):
    return torch.cat([value.flatten() for value in gradients.values()]).norm().item()


def relative_error(found, expected):
    assert set(found) == set(expected)
    return norm({name: found[name] - value for name, value in expected.items()}) / norm(expected)


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
@pytest.mark.parametrize("weight", [1e-5, 1.0])
def test_16_mixed_gives_nearly_the_same_gradients_with_small_weights_too(weight, scale, config, tmp_path):
    config.distillation.cosine_loss_weight = 0.0
    config.distillation.student_train_loss_weight = 0.5 * weight
    config.distillation.distillation_loss_weight = weight
    exact, _ = first_gradients(config, tmp_path, accumulate_grad_batches=3)
    found, _ = first_gradients(
        config, tmp_path, accumulate_grad_batches=3, plugins=half_precision(scale * 0.05 / weight)
    )
    assert relative_error(found, exact) < 0.02


def test_16_mixed_clips_what_was_unscaled_and_weighted(config, tmp_path):
    found, _ = first_gradients(config, tmp_path, plugins=half_precision(2.0**16), gradient_clip_val=0.01)
    assert norm(found) == pytest.approx(0.01, rel=1e-3)


class Steps(pl.Callback):
    """Keeps the gradients of each optimizer step of two batches, and the weights after it."""

    def __init__(self):
        self.gradients, self.weights, self.step_weights = [], [], []

    def on_train_batch_end(self, trainer, model, outputs, batch, batch_idx):
        if batch_idx % 2 == 0:
            return
        self.gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        self.weights.append(copy.deepcopy(model.student.state_dict()))
        self.step_weights.append(float(model.step_weight))


def test_a_step_that_16_mixed_leaves_out_moves_nothing_and_the_next_is_weighted_by_its_own_tokens(config, tmp_path):
    steps = Steps()
    config.optim.lr = 1e-6  # the weights are nearly the same in all steps
    plugin = half_precision(2.0**40)
    plugin.scaler.set_backoff_factor(2.0**-30)
    first_gradients(config, tmp_path, steps, FiniteTraining(), plugins=plugin, accumulate_grad_batches=2)
    skipped, done = steps.gradients
    assert not all(value.isfinite().all() for value in skipped.values())
    assert plugin.scaler.get_scale() == 2.0**10
    assert steps.step_weights == [0.0, 0.0]
    pl.seed_everything(0)
    model = DistillationModelPT(config, model_class=DistillableMTEncDecModel)
    fresh = model.student.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in steps.weights[0].items())
    assert any(not torch.equal(value, fresh[name]) for name, value in steps.weights[1].items())
    exact = Steps()
    first_gradients(config, tmp_path, exact, accumulate_grad_batches=2)
    assert relative_error(done, exact.gradients[1]) < 0.02
