"""Tokens are counted once, steps are timed, and where there is no terminal, a training says a line a minute."""

import itertools
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from nemo_distill.commands.training import build_trainer
from nemo_distill.console import console
from nemo_distill.trainer import training_length
from nemo_distill.trainer.training_length import LoggedProgress, Stopwatch, TrainingLength

LABELS = [[1, 2, 0], [3, 0, 0], [4, 5, 6], [7, 8, 0], [0, 0, 0]]  # 0 is padding


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def number_of_targets(self, batch):
        return (batch != 0).sum()

    def training_step(self, batch, batch_idx):
        return self.layer(batch.float()).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class RestoresBest(pl.callbacks.Checkpoint):
    """Like NeMo's checkpoint callback, restores an earlier checkpoint at the end."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 1 and not self.path.exists():
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer, pl_module):
        trainer._checkpoint_connector.restore(self.path)


class Repeated(IterableDataset):
    """Has all lines again and again, and no length."""

    def __init__(self, labels):
        self.labels = labels

    def __iter__(self):
        return itertools.cycle(self.labels)


def train(folder, steps, resumed=None, accumulated=1, labels=LABELS, callbacks=(), endless=False):
    length = TrainingLength()
    trainer = pl.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        accumulate_grad_batches=accumulated, enable_checkpointing=bool(callbacks), default_root_dir=folder,
        callbacks=[length, *callbacks],
    )  # fmt: skip
    data = torch.tensor(labels)
    trainer.fit(Model(), DataLoader(Repeated(data) if endless else data, batch_size=1), ckpt_path=resumed)
    return length, trainer


@pytest.mark.parametrize(
    ("steps", "accumulated", "epochs", "tokens"),
    [(4, 1, 0.8, 8), (5, 1, 1.0, 8), (7, 1, 1.4, 11), (2, 2, 0.8, 8), (3, 2, 1.0, 8)],
)
def test_real_target_tokens_of_all_batches_are_counted(tmp_path, steps, accumulated, epochs, tokens):
    length, trainer = train(tmp_path, steps, accumulated=accumulated)
    assert length.so_far(trainer) == {"steps": steps, "epochs": epochs, "target_tokens": tokens}


def test_the_epochs_of_data_without_a_length_are_unknown(tmp_path):
    length, trainer = train(tmp_path, 7, endless=True)
    assert length.so_far(trainer) == {"steps": 7, "epochs": None, "target_tokens": 11}


def test_a_resumed_training_counts_each_batch_once(tmp_path):
    alike = [[1, 2, 0]] * 5
    _, first = train(tmp_path, 3, labels=alike)
    first.save_checkpoint(tmp_path / "3.ckpt")
    length, trainer = train(tmp_path, 7, resumed=tmp_path / "3.ckpt", labels=alike)
    assert length.so_far(trainer) == {"steps": 7, "epochs": 1.4, "target_tokens": 14}
    length, trainer = train(tmp_path, 3, resumed=tmp_path / "3.ckpt", labels=alike)  # no step is left
    assert length.so_far(trainer) == {"steps": 3, "epochs": 0.6, "target_tokens": 6}


def test_the_best_checkpoint_that_is_restored_at_the_end_leaves_the_count_as_it_is(tmp_path):
    length, trainer = train(tmp_path, 4, callbacks=[RestoresBest(tmp_path / "best.ckpt")])
    assert trainer.global_step == 1
    assert length.so_far(trainer) == {"steps": 4, "epochs": 0.8, "target_tokens": 8}


def test_after_a_checkpoint_without_a_count_epochs_and_tokens_are_unknown(tmp_path):
    _, first = train(tmp_path, 5)
    first.callbacks = [callback for callback in first.callbacks if not isinstance(callback, TrainingLength)]
    first.save_checkpoint(tmp_path / "old.ckpt")
    length, trainer = train(tmp_path, 7, resumed=tmp_path / "old.ckpt")
    assert length.so_far(trainer) == {"steps": 7, "epochs": None, "target_tokens": None}


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


@pytest.fixture
def timed(monkeypatch):
    """Runs batches of given seconds, two for each optimizer step, and returns the stopwatch and the last step."""

    def train(batches, **options):
        clock, trainer = SimpleNamespace(now=0.0), SimpleNamespace(global_step=0, should_stop=False)
        monkeypatch.setattr(training_length.time, "perf_counter", lambda: clock.now)
        watch, model = Stopwatch(**options), SimpleNamespace(device=SimpleNamespace(type="cpu"))
        for batch, taken in enumerate(batches, start=1):
            clock.now += taken
            trainer.global_step = batch // 2
            watch.on_train_batch_end(trainer, model, None, None, batch)
            if trainer.should_stop:
                break
        return watch, trainer.global_step

    return train


def test_the_first_steps_are_left_out_and_each_part_has_its_mean(timed):
    watch, last = timed([50.0] * 4 + [1.0] * 8 + [2.0] * 8, seconds=20.0, first_steps=2, parts=2)
    assert watch.began == 200.0
    assert watch.repeats == pytest.approx([2 * 12 / 10, 4.0]) and last == 10


def test_a_part_has_at_least_one_step(timed):
    watch, last = timed([30.0] * 20, seconds=1.0, first_steps=1, parts=3)
    assert watch.repeats == [60.0] * 3 and last == 4
