"""NaN and infinity end a training before they reach its weights."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from nemo_distill.commands.user_errors import plain_errors
from nemo_distill.config.errors import NotFiniteError
from nemo_distill.nemo_files.weights import check_weights, not_finite
from nemo_distill.trainer.finite import FiniteTraining

NAN, INFINITY = float("nan"), float("inf")


class Line(pl.LightningModule):
    """Learns y = 2x; `spoil(step, loss)` may change the loss."""

    def __init__(self, spoil=lambda step, loss: loss):
        super().__init__()
        self.layer, self.spoil, self.batches = nn.Linear(1, 1), spoil, 0

    def training_step(self, batch, batch_idx):
        loss = (self.layer(batch) - 2 * batch).square().mean()
        self.batches += 1
        loss = self.spoil(self.batches, loss)
        self.step_losses = {"first": loss.detach(), "second": torch.tensor(1.0)}
        return loss

    def batch_origin(self, batch):
        return f"The batch is of number {batch.item():g}."

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(model, folder, **options):
    checkpoints = pl.callbacks.ModelCheckpoint(folder, every_n_train_steps=2, save_top_k=-1)
    trainer = pl.Trainer(
        max_steps=8, logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        callbacks=[FiniteTraining(), checkpoints], **options,
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(torch.arange(1.0, 9.0).unsqueeze(1)))
    return trainer


@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_a_loss_that_is_not_finite_is_told_with_step_term_batch_and_checkpoint(tmp_path, value):
    model = Line(lambda step, loss: loss * value if step == 4 else loss)
    with pytest.raises(NotFiniteError) as raised:
        fit(model, tmp_path)
    message = str(raised.value)
    assert message.startswith(f"Training stopped in optimizer step 4: the loss is not finite: first is {value}.")
    assert "The batch is of number 4." in message
    assert f"The last good checkpoint is '{tmp_path / 'epoch=0-step=2.ckpt'}'" in message
    assert [path.name for path in tmp_path.iterdir()] == ["epoch=0-step=2.ckpt"]
    assert not not_finite(model.named_parameters())


def test_gradients_that_are_not_finite_stop_a_training_whose_loss_is(tmp_path):
    """The square root has an infinite gradient at 0, which 0 times makes NaN."""
    model = Line()
    model.spoil = lambda step, loss: loss + (model.layer.bias.sum() * 0).sqrt() if step == 1 else loss
    with pytest.raises(NotFiniteError) as raised:
        fit(model, tmp_path)
    assert "step 1: the losses are finite, but the gradients are not, starting with 'layer.bias'" in str(raised.value)
    assert "There is no checkpoint to resume from" in str(raised.value)
    assert list(tmp_path.iterdir()) == [] and not not_finite(model.named_parameters())


def test_of_accumulated_batches_the_one_at_fault_is_named(tmp_path):
    model = Line(lambda step, loss: loss * NAN if step == 3 else loss)
    with pytest.raises(NotFiniteError, match="optimizer step 1: .* number 3. There is"):
        fit(model, tmp_path, accumulate_grad_batches=4)


def test_infinite_gradients_that_a_scaler_will_leave_out_stop_nothing(tmp_path):
    """On a CPU there is no scaler; one whose steps are the optimizer's own is put in its place."""

    class Precision(pl.plugins.Precision):
        scaler = object()

    model = Line()
    model.layer.bias.register_hook(lambda gradient: gradient * INFINITY if model.batches == 3 else gradient)
    model.on_before_optimizer_step = lambda optimizer: torch.nan_to_num_(model.layer.bias.grad, posinf=0, neginf=0)
    assert fit(model, tmp_path, plugins=[Precision()]).global_step == 8
    model = Line(lambda step, loss: loss * NAN if step == 3 else loss)
    with pytest.raises(NotFiniteError, match="optimizer step 3"):
        fit(model, tmp_path, plugins=[Precision()])


def test_a_training_does_not_start_from_weights_that_are_not_finite(tmp_path):
    model = Line()
    model.layer.weight.data.fill_(NAN)
    with pytest.raises(
        NotFiniteError, match="Training did not start: the model has NaN or infinity in 'layer.weight'"
    ):
        fit(model, tmp_path)


def test_a_weight_is_named_and_others_counted():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    check_weights(model, "it")
    model[0].bias.data[1] = INFINITY
    model[1].weight.data[0, 0] = NAN
    with pytest.raises(NotFiniteError, match=r"^it has NaN or infinity in '0.bias' and in 1 more$"):
        check_weights(model, "it")


def test_a_job_that_meets_them_ends_with_the_sentence_and_code_1():
    with pytest.raises(SystemExit) as ended, plain_errors():
        raise NotFiniteError("the sentence")
    assert ended.value.code == "\nthe sentence"  # printed to standard error; the exit code is 1
