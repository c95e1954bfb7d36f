"""Where there is no terminal, a training says a line a minute."""

import itertools

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console
from torch import nn

from nemo_distill.commands.training import build_trainer
from nemo_distill.console import console
from nemo_distill.trainer.logged_progress import LoggedProgress

BATCH_SECONDS = 25  # training
LOSS = 1.5


class Line(pl.LightningModule):
    """Logs as NeMo's models do; each of its batches takes 25 seconds of a clock that stands still otherwise."""

    def __init__(self, clock, validation_seconds=0):
        super().__init__()
        self.layer, self.clock, self.validation_seconds = nn.Linear(1, 1), clock, validation_seconds

    def training_step(self, batch, batch_idx):
        self.clock.now += BATCH_SECONDS
        self.log("train_step_timing in s", 0.1, prog_bar=True)
        self.log("train_loss", LOSS, prog_bar=True)
        return self.layer(batch).square().mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.clock.now += self.validation_seconds
        self.log("val_sacreBLEU", 12.3456)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(console, "info", lines.append)
    return lines


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        return itertools.repeat(torch.ones(1))


def fit(model, checkpoint=None, validation=None, data=None, **options):
    loader = torch.utils.data.DataLoader(torch.ones(100, 1) if data is None else data)
    trainer = pl.Trainer(
        logger=False, accelerator="cpu", enable_checkpointing=False, enable_model_summary=False,
        num_sanity_val_steps=0, callbacks=[LoggedProgress()], **options,
    )  # fmt: skip
    trainer.fit(model, loader, validation, ckpt_path=checkpoint)
    return trainer


def test_a_training_says_each_minute_how_far_it_is_how_fast_and_what_its_loss_is(clock, said):
    fit(Line(clock), max_steps=9)
    assert len(said) == 3
    assert said[0] == "training: 33.3%, 0.04 steps/s, 0:02:30 left, epoch 0, step 3, train_loss 1.5"
    assert said[2] == "training: 100.0%, 0.04 steps/s, 0:00:00 left, epoch 0, step 9, train_loss 1.5"


def test_of_accumulated_batches_steps_are_counted(clock, said):
    fit(Line(clock), max_steps=4, accumulate_grad_batches=2)
    assert said[0].startswith("training: 50.0%, 0.02 steps/s, 0:01:40 left, epoch 0, step 2,")


def test_a_resumed_training_leaves_out_what_was_done_before(clock, said, tmp_path):
    fit(Line(clock), max_steps=6).save_checkpoint(tmp_path / "last.ckpt")
    said.clear()
    fit(Line(clock), tmp_path / "last.ckpt", max_steps=12)
    assert said[0].startswith("training: 75.0%, 0.04 steps/s, 0:01:15 left, epoch 1, step 9,")


@pytest.mark.parametrize("endless", [{"max_steps": -1, "max_epochs": -1}, {"data": Endless(), "max_epochs": 2}])
def test_a_training_whose_end_nobody_knows_has_no_share_and_no_time_left(clock, said, endless):
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step == 3

    model = Line(clock)
    model.configure_callbacks = lambda: [Stop()]
    fit(model, **endless)
    assert said == ["training: 0.04 steps/s, epoch 0, step 3, train_loss 1.5"]


def test_a_long_validation_says_how_far_it_is(clock, said):
    validation = torch.utils.data.DataLoader(torch.ones(5, 1))
    fit(Line(clock, validation_seconds=61), validation=[validation, validation], max_steps=2, val_check_interval=2)
    assert "validating: 10.0%, 0.016 batches/s, 0:09:09 left" in said
    assert said[-1].startswith("validating: 100.0%")


def test_processes_but_the_first_say_nothing(clock, said, monkeypatch):
    monkeypatch.setattr(pl.Trainer, "is_global_zero", False)
    fit(Line(clock), max_steps=9)
    assert said == []


@pytest.mark.parametrize(
    ("terminal", "wanted", "lines"), [(True, True, False), (False, True, True), (False, False, False)]
)
def test_a_terminal_keeps_the_bar_and_who_wants_none_gets_no_lines(monkeypatch, terminal, wanted, lines):
    monkeypatch.setattr(Console, "is_terminal", terminal)
    trainer = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": wanted}
    bar = build_trainer(OmegaConf.create({"trainer": trainer, "model": {}})).progress_bar_callback
    assert isinstance(bar, LoggedProgress) is lines and (bar is not None) is wanted
