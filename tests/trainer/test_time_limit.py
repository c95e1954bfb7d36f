"""A training whose `exp_manager.max_time_per_run` is over has averaged weights, and is finished only if no steps remain."""

from datetime import timedelta

import lightning.pytorch as pl
import pytest
import torch
from nemo.utils.callbacks import NeMoModelCheckpoint
from nemo.utils.exp_manager import StatelessTimer
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from nemo_distill.commands.training import run_job
from nemo_distill.console import Interrupted
from nemo_distill.trainer.safe_checkpoints import SafeCheckpointIO, settle_checkpoints
from nemo_distill.trainer.weight_average import WeightAverage
from tests.trainer.test_weight_average import DATA, Line

STEPS, NEVER = 8, 99
LIMIT = "00:03:30:00"


class Loaded(Line):
    """The model with its data: the same batch in every step."""

    def train_dataloader(self):
        return DataLoader(DATA.repeat(6, 1), 12)

    def val_dataloader(self):
        return DataLoader(DATA, 12)


class OverAt(StatelessTimer):
    """NeMo's time limit, which is over at a step."""

    def __init__(self, step):
        super().__init__(timedelta(hours=1))
        self.step = step

    def on_train_batch_end(self, trainer, *args, **kwargs):
        if trainer.global_step >= self.step:
            self._duration = 1e-9
        super().on_train_batch_end(trainer, *args, **kwargs)


class StoppedEarly(pl.Callback):
    """Ends the training after a validation during which the time is over."""

    def __init__(self, timer):
        self.timer = timer

    def on_validation_end(self, trainer, pl_module):
        trainer.should_stop, self.timer._duration = True, 1e-9


def train(folder, over_at=NEVER, stopped_early=False):
    """Trains as a job does, from the last checkpoint in a folder, and returns what it wrote to the `.nemo`."""
    options = {"save_top_k": 1, "save_last": True, "every_n_epochs": 1, "prefix": "line"}
    saver = NeMoModelCheckpoint(dirpath=str(folder), monitor="val_loss", **options)
    saver.CHECKPOINT_NAME_LAST = "{step}-last"  # exp_manager sets it like this
    timer = OverAt(over_at)
    trainer = pl.Trainer(
        max_steps=STEPS, callbacks=[WeightAverage(0.9), saver], plugins=[SafeCheckpointIO()], accelerator="cpu",
        val_check_interval=2, check_val_every_n_epoch=None, num_sanity_val_steps=0, enable_progress_bar=False,
        enable_model_summary=False, logger=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.callbacks += [timer, *([StoppedEarly(timer)] if stopped_early else [])]  # last, as with exp_manager
    settle_checkpoints(folder)
    if last := next(folder.glob("*-last.ckpt"), None):
        trainer.ckpt_path = str(last)
    manager = {"explicit_log_dir": str(folder), "resume_if_exists": True, "max_time_per_run": LIMIT}
    run_job(OmegaConf.create({"model": {}, "exp_manager": manager}), trainer, Loaded())
    return torch.load(folder / "line.nemo")


def same(written, expected):
    return all(torch.equal(written[name], weight) for name, weight in expected.items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a training without a limit writes."""
    return train(tmp_path_factory.mktemp("whole"))


def test_a_training_whose_time_is_over_is_interrupted_and_goes_on_to_the_same_result(whole, tmp_path):
    for step in (3, 6):
        with pytest.raises(Interrupted, match=f"max_time_per_run={LIMIT}.* same command goes on"):
            train(tmp_path, over_at=step)
        assert not list(tmp_path.glob("*.nemo"))
        (last,) = tmp_path.glob("*-last.ckpt")
        assert torch.load(last, weights_only=False)["global_step"] == step
    assert same(train(tmp_path), whole)


def test_a_training_whose_time_is_over_in_its_last_step_writes_the_averages(whole, tmp_path):
    assert same(train(tmp_path, over_at=STEPS), whole)


def test_time_that_is_over_in_the_last_validation_interrupts_nothing(tmp_path):
    written = train(tmp_path, stopped_early=True)
    (last,) = tmp_path.glob("*-last.ckpt")
    assert torch.equal(written["layer.weight"], torch.load(last, weights_only=False)["state_dict"]["layer.weight"])
