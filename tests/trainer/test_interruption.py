"""A training that SIGTERM or Ctrl-C ends goes on from that step, with the result of an uninterrupted one."""

import signal

import lightning.pytorch as pl
import pytest
import torch
from nemo.utils.callbacks import NeMoModelCheckpoint
from nemo.utils.exp_manager import configure_no_restart_validation_training_loop
from torch import nn
from torch.utils.data import DataLoader

from nemo_distill.trainer.exact_resume import ExactResumeCallback
from nemo_distill.trainer.interruption import SavedInterruption
from nemo_distill.trainer.resumable_loader import resumable_loader
from nemo_distill.trainer.safe_checkpoints import SafeCheckpointIO, settle_checkpoints
from nemo_distill.trainer.weight_average import WeightAverage

STEPS, BATCHES = 10, 12  # of the training, and of an epoch; every step takes two batches


class Line(pl.LightningModule):
    """Weights batches as `DistillationModelPT` does: the gradients of a step are divided by the sum of its weights."""

    step_weight = 0.0

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)
        self.losses, self.scores = {}, {}

    def training_step(self, batch, batch_idx):
        loss = (self.layer(nn.functional.dropout(batch, 0.5)) - batch.sum(-1, keepdim=True)).square().mean()
        self.losses[self.trainer.fit_loop.total_batch_idx] = loss.item()
        weight = 1 + batch.mean().item()
        self.step_weight += weight
        return weight * loss

    def on_before_optimizer_step(self, optimizer):
        for parameter in self.parameters():
            parameter.grad /= self.step_weight
        self.step_weight = 0.0

    def validation_step(self, batch, batch_idx):
        score = self.layer(batch).sum()
        if not self.trainer.sanity_checking:
            self.scores[self.trainer.global_step, batch_idx] = score.item()
        self.log("val_loss", score)

    def configure_optimizers(self):
        return torch.optim.Adam(self.layer.parameters(), lr=0.1)

    def save_to(self, save_path):
        torch.save(self.state_dict(), save_path)


class SignalAt(pl.Callback):
    """Sends a signal to this process in a batch of the training, or of the validation after it."""

    def __init__(self, number, batch, validating=False):
        self.number, self.batch, self.validating = number, batch, validating

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if not self.validating and trainer.fit_loop.total_batch_idx == self.batch:
            signal.raise_signal(self.number)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if self.validating and not trainer.sanity_checking and trainer.fit_loop.total_batch_idx == self.batch:
            signal.raise_signal(self.number)


def fit(folder, *callbacks, val_check_interval=4, **checkpoint):
    """Trains from the last checkpoint in a folder, if there is one, with NeMo's loop, and returns the model."""
    settle_checkpoints(folder)
    last = next(folder.glob("*-last.ckpt"), None)
    options = {"save_top_k": 1, "save_last": True, "every_n_epochs": 1, "prefix": "line"}
    saver = NeMoModelCheckpoint(dirpath=str(folder), monitor="val_loss", **(options | checkpoint))
    saver.CHECKPOINT_NAME_LAST = "{step}-last"  # exp_manager sets it like this
    trainer = pl.Trainer(
        max_steps=STEPS, plugins=[SafeCheckpointIO()], accelerator="cpu", logger=False, check_val_every_n_epoch=None,
        callbacks=[WeightAverage(0.9), ExactResumeCallback(), SavedInterruption(), *callbacks, saver],
        val_check_interval=val_check_interval, enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=2,
    )  # fmt: skip
    configure_no_restart_validation_training_loop(trainer)  # as exp_manager does
    model, data = Line(), torch.arange(4.0 * BATCHES).reshape(BATCHES, 2, 2) / 20  # complete batches, as NeMo's are
    batches = resumable_loader(DataLoader(data, 1), shuffle=True)
    trainer.fit(model, batches, DataLoader(data, BATCHES // 2), ckpt_path=last and str(last))
    return model


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    """Python's own handler of Ctrl-C, which a shell's background lacks; afterwards the handlers of before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
    signal.signal(signal.SIGINT, before[signal.SIGINT])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return fit(folder), checkpoint(folder)


def checkpoint(folder):
    (last,) = folder.glob("*-last.ckpt")
    return torch.load(last, weights_only=False)


@pytest.mark.parametrize(
    ("number", "batch", "validating", "step"),
    [
        (signal.SIGTERM, 8, False, 4),  # within an optimizer step
        (signal.SIGINT, 9, False, 5),
        (signal.SIGTERM, 1, False, 1),  # before any validation
        (signal.SIGTERM, 6, False, 3),  # the batch before one after which is validated
        (signal.SIGTERM, 7, False, 4),  # a batch after which is validated
        (signal.SIGTERM, 7, True, 4),
        (signal.SIGINT, 3, True, 2),
        (signal.SIGTERM, BATCHES - 1, False, 6),  # the last batch of an epoch
        (signal.SIGINT, BATCHES - 1, True, 6),
        (signal.SIGTERM, 2 * STEPS - 1, True, STEPS),  # the last validation
    ],
)
def test_a_training_that_is_told_to_stop_goes_on_from_that_step(number, batch, validating, step, whole, tmp_path):
    expected, last = whole
    with pytest.raises(SystemExit):
        fit(tmp_path, SignalAt(number, batch, validating))
    assert checkpoint(tmp_path)["global_step"] == step
    resumed = fit(tmp_path)
    assert min(resumed.losses, default=2 * STEPS) == batch + 1
    assert resumed.losses == {index: loss for index, loss in expected.losses.items() if index > batch}
    assert resumed.scores.items() <= expected.scores.items()
    to_come = {key for key in expected.scores if key[0] > step or (validating and key[0] == step)}
    assert to_come <= set(resumed.scores)
    found = checkpoint(tmp_path)
    for name, value in last["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value)
    assert found["weight_average"]["updates"] == last["weight_average"]["updates"] == STEPS


def killed_and_resumed(folder, killed):
    """Returns a whole training, and one that goes on after it was killed. There is a checkpoint after each step."""
    options = {"every_n_train_steps": 1, "every_n_epochs": None}
    expected = fit(folder / "whole", **options)
    with pytest.raises(OSError, match="killed"):
        fit(folder / "parts", killed, **options)
    return expected, fit(folder / "parts", **options)


@pytest.mark.parametrize("batch", [6, 7, 10])
def test_a_training_that_was_killed_goes_on_from_a_checkpoint_between_validations(batch, tmp_path):
    class Killed(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.fit_loop.total_batch_idx == batch:
                raise OSError("killed")

    expected, resumed = killed_and_resumed(tmp_path, Killed())
    begun = batch - batch % 2  # the batch after the last step
    assert resumed.losses == {index: loss for index, loss in expected.losses.items() if index >= begun}
    assert resumed.scores == {place: score for place, score in expected.scores.items() if 2 * place[0] > begun}


@pytest.mark.parametrize("step", [4, STEPS])
def test_a_training_that_was_killed_while_it_validated_validates_first(step, tmp_path):
    class Killed(pl.Callback):
        def on_validation_batch_end(self, trainer, *_):
            if trainer.global_step == step:
                raise OSError("killed")

    expected, resumed = killed_and_resumed(tmp_path, Killed())
    assert [resumed.scores[step, batch] for batch in (0, 1)] == [expected.scores[step, batch] for batch in (0, 1)]
    assert min(resumed.losses, default=2 * STEPS) == 2 * step


@pytest.mark.parametrize("every", [3, 4])
def test_a_training_that_has_ended_neither_trains_nor_validates_again(every, tmp_path):
    options = {"every_n_train_steps": every, "every_n_epochs": None}
    assert fit(tmp_path, val_check_interval=every, **options).losses
    again = fit(tmp_path, val_check_interval=every, **options)
    assert not again.losses and not again.scores


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    class Twice(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.fit_loop.total_batch_idx == 9:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit):
        fit(tmp_path, Twice())
    assert checkpoint(tmp_path)["global_step"] == 4  # of the last validation
