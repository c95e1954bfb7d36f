"""The same tokens give the same gradients and logged losses, in however many batches and on however many devices."""

import copy
import itertools
import subprocess
import sys

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nemo_distill import DistillableMTEncDecModel, DistillationModelPT
from tests.conftest import SCRIPTS

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
        self.seen.append({k: v.item() for k, v in trainer.callback_metrics.items() if k.endswith("_loss")})

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
    result = {"weights": model.student.state_dict(), "seen": Losses.seen, "logged": Log.rows, "sums": len(sums)}
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
        dropouts = ("embedding_dropout", "ffn_dropout", "attn_score_dropout", "attn_layer_dropout")
        cfg[side].update(dict.fromkeys(dropouts, 0.0))
    return cfg


@pytest.fixture
def train(config, tmp_path):
    OmegaConf.save(config, tmp_path / "model.yaml")
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")

    def run(devices, accumulate):
        arguments = [sys.executable, str(tmp_path / "train.py"), str(tmp_path), str(devices), str(accumulate)]
        result = subprocess.run(arguments, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return torch.load(tmp_path / f"result_{devices}_{accumulate}.pt")

    return run


class Gradients(pl.Callback):
    """Keeps the gradients that the first optimizer step uses."""

    def on_before_zero_grad(self, trainer, model, optimizer):
        if trainer.global_step == 1:
            self.found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_accumulated_batches_count_by_their_tokens(config, tmp_path):
    pl.seed_everything(0)
    gradients = Gradients()
    options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "limit_val_batches": 0}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=2,
        accumulate_grad_batches=3,
        default_root_dir=tmp_path,
        callbacks=[gradients],
        **options,
    )
    model = DistillationModelPT(config, trainer, model_class=DistillableMTEncDecModel)
    fresh = copy.deepcopy(model.student.state_dict())
    trainer.fit(model)

    model.student.load_state_dict(fresh)
    model.zero_grad()
    model.log = lambda *args, **kwargs: None
    batches = list(itertools.islice(model.train_dataloader(), 3))
    tokens = [int((batch[-1] != 3).sum()) for batch in batches]
    assert len(set(tokens)) > 1
    for batch, count in zip(batches, tokens):
        losses = model.distillation_losses(batch)
        objective = losses["primary"] + losses["cosine"] + 0.5 * losses["student"]
        (objective * count / sum(tokens)).backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(gradients.found) == set(expected)
    assert all(torch.allclose(gradients.found[name], value, atol=1e-6) for name, value in expected.items())


def first_gradients(config, folder, *callbacks, **options):
    pl.seed_everything(0)
    gradients = Gradients()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "limit_val_batches": 0}
    callbacks = [gradients, *callbacks]
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=2, default_root_dir=folder, callbacks=callbacks, **quiet, **options
    )
    trainer.fit(DistillationModelPT(config, trainer, model_class=DistillableMTEncDecModel))
    return gradients.found, trainer


def test_gradients_are_clipped_after_they_have_been_weighted(config, tmp_path):
    found, _ = first_gradients(config, tmp_path, gradient_clip_val=0.01)
    assert torch.cat([value.flatten() for value in found.values()]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_bf16_mixed_gives_nearly_the_same_gradients(config, tmp_path):
    full, _ = first_gradients(config, tmp_path)
    mixed, trainer = first_gradients(config, tmp_path, precision="bf16-mixed")
    assert trainer.callback_metrics["train_loss"].isfinite()
    full, mixed = (torch.cat([value.flatten() for value in found.values()]) for found in (full, mixed))
    assert (mixed - full).norm() < 0.1 * full.norm()


METHODS = sorted(path.stem for path in (SCRIPTS / "conf" / "distillation").glob("*.yaml"))


def distillation_section(method, model_path):
    with initialize_config_dir(str(SCRIPTS / "conf"), version_base=None):
        section = compose("aayn_base_distill", [f"distillation={method}"]).model.distillation
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


def test_two_devices_train_as_one_that_accumulates_two_batches(train):
    one, two = train(devices=1, accumulate=2), train(devices=2, accumulate=1)
    assert all(torch.allclose(value, two["weights"][name], atol=1e-6) for name, value in one["weights"].items())
    assert list(one["logged"]) == list(two["logged"]) == [1, 3]
    for name in ("primary_loss", "cosine_loss", "student_loss", "train_loss"):
        assert one["logged"][3][name] == pytest.approx(one["seen"][7][name])
        # Two devices log the mean over the tokens of both batches.
        batches = [seen[name] for seen in one["seen"][6:8]]
        assert min(batches) - 1e-6 <= two["logged"][3][name] <= max(batches) + 1e-6
        assert two["logged"][3][name] != pytest.approx(batches[0]) and two["logged"][3][name] != pytest.approx(
            batches[1]
        )
    # They meet in each of four steps for the gradients, and for the losses in the logged ones alone.
    assert two["sums"] == 4 + 2
