"""A moving average of weights: what it is, who sees it, and that an interruption changes nothing."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from nemo.utils.callbacks import NeMoModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.trainer.safe_checkpoints import SafeCheckpointIO, complete_training
from nemo_distill.trainer.weight_average import WeightAverage
from tests.another_device import another_device

DATA = torch.arange(24.0).reshape(12, 2) / 10


class Line(pl.LightningModule):
    """A model with a frozen weight, and one that has two names."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.frozen = nn.Linear(2, 1), nn.Linear(2, 1).requires_grad_(False)
        self.tied = nn.Linear(2, 1, bias=False)
        self.tied.weight = self.layer.weight
        self.trained, self.validated = [], []

    def training_step(self, batch, batch_idx):
        return ((self.layer(batch) + self.frozen(batch)) - batch.sum(-1, keepdim=True)).square().mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(self.tied.weight.detach().clone())
        self.log("val_loss", self.layer(batch).sum())

    def on_train_batch_end(self, *_):
        self.trained.append(self.layer.weight.detach().clone())

    def configure_optimizers(self):
        return torch.optim.Adam(self.layer.parameters(), lr=0.1)

    def save_to(self, save_path):
        torch.save(self.state_dict(), save_path)


def fit(model, folder, steps, decay, resume=None, accumulate=1, **checkpoint):
    """Trains to a step, always on the same batch, and validates after every second batch."""
    options = {"save_top_k": 1, "save_last": True, "every_n_epochs": 1, "prefix": "line", "mode": "max"}
    saver = NeMoModelCheckpoint(dirpath=str(folder), monitor="val_loss", **(options | checkpoint))
    average = WeightAverage(decay)
    trainer = pl.Trainer(
        max_steps=steps, callbacks=[average, saver], plugins=[SafeCheckpointIO()], accelerator="cpu", logger=False,
        val_check_interval=2, enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=accumulate,
        num_sanity_val_steps=0, check_val_every_n_epoch=None,
    )  # fmt: skip
    loader = DataLoader(DATA, 12)
    trainer.fit(model, DataLoader(DATA.repeat(6, 1), 12), loader, ckpt_path=resume)
    return trainer, average


def averages(first, trained, decay):
    """As the definition has them, one for each step."""
    average, found = first.clone(), []
    for step, weights in enumerate(trained, start=1):
        kept = min(decay, (1 + step) / (10 + step))
        average = kept * average + (1 - kept) * weights
        found.append(average)
    return found


def test_validation_and_the_nemo_have_the_average_and_training_goes_on_without_it(tmp_path):
    model, plain = Line(), Line()
    first = model.layer.weight.detach().clone()
    trainer, _ = fit(model, tmp_path / "averaged", 6, 0.5)
    fit(plain, tmp_path / "plain", 6, None)
    assert all(map(torch.equal, model.trained, plain.trained)) and len(model.trained) == 6
    expected = averages(first, plain.trained, 0.5)
    torch.testing.assert_close(model.validated, expected[1::2])
    written = torch.load(tmp_path / "averaged" / "line.nemo")
    torch.testing.assert_close(written["layer.weight"], expected[-1])
    assert torch.equal(written["tied.weight"], written["layer.weight"])
    assert torch.equal(written["frozen.weight"], plain.frozen.weight)
    assert torch.equal(torch.load(tmp_path / "plain" / "line.nemo")["layer.weight"], plain.trained[-1])
    trainer.validate(model, DataLoader(DATA, 12), verbose=False)
    assert torch.equal(model.layer.weight, written["layer.weight"])


def test_the_best_model_is_written_with_its_average(tmp_path):
    model = Line()
    trainer, _ = fit(model, tmp_path, 6, 0.5, save_best_model=True, mode="min")
    best = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=False)
    written = torch.load(tmp_path / "line.nemo")
    assert all(torch.equal(written[name], best["state_dict"][name]) for name in written)
    assert any(torch.equal(written["layer.weight"], weights) for weights in model.validated)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_interrupted_training_equals_one_that_was_not(accumulate, tmp_path):
    whole, begun, resumed = Line(), Line(), Line()
    fit(whole, tmp_path / "whole", 8, 0.9, accumulate=accumulate)
    trainer, _ = fit(begun, tmp_path / "parts", 4, 0.9, accumulate=accumulate)
    last = trainer.checkpoint_callback.last_model_path
    fit(resumed, tmp_path / "parts", 8, 0.9, resume=last, accumulate=accumulate)
    assert all(map(torch.equal, whole.trained, begun.trained + resumed.trained))
    of_steps = averages(Line().layer.weight.detach(), whole.trained[accumulate - 1 :: accumulate], 0.9)
    torch.testing.assert_close(whole.validated[-1], of_steps[-1])
    assert all(map(torch.equal, whole.validated[-2:], resumed.validated[-2:]))
    written = [torch.load(tmp_path / name / "line.nemo")["layer.weight"] for name in ("whole", "parts")]
    assert torch.equal(*written)


def test_a_training_killed_before_its_nemo_was_written_writes_the_average(tmp_path):
    trainer, _ = fit(Line(), tmp_path, 4, 0.9)
    written = torch.load(tmp_path / "line.nemo")
    (tmp_path / "line.nemo").unlink()
    resumed = Line()
    trainer, _ = fit(resumed, tmp_path, 4, 0.9, resume=trainer.checkpoint_callback.last_model_path)
    complete_training(trainer, resumed)
    assert all(torch.equal(torch.load(tmp_path / "line.nemo")[name], written[name]) for name in written)


def test_averages_that_were_read_before_the_model_moved_follow_it_to_its_device():
    model, average, trainer = Line(), WeightAverage(0.9), SimpleNamespace(global_step=4)
    saved = {"decay": 0.9, "updates": 4, "weights": {name: value + 1 for name, value in model.state_dict().items()}}
    average.on_load_checkpoint(trainer, model, {"weight_average": saved, "state_dict": model.state_dict()})
    with another_device() as device:
        model.to(device)
        average.on_train_start(trainer, model)
        trainer.global_step = 5
        average.on_train_batch_end(trainer, model)
        assert all(other.device == device for other in average._others)


def test_averages_can_begin_in_a_resumed_training_and_cannot_be_left_out_of_one(tmp_path):
    trainer, _ = fit(Line(), tmp_path, 4, None)
    trainer, average = fit(Line(), tmp_path, 6, 0.9, resume=trainer.checkpoint_callback.last_model_path)
    assert average._updates == 2
    with pytest.raises(ConfigurationError, match="ema=null: .* 0.9"):
        fit(Line(), tmp_path, 8, None, resume=trainer.checkpoint_callback.last_model_path)
