"""Stops a training before NaN or infinity reaches the weights, and keeps such weights out of files."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from nemo_distill.config.errors import NotFiniteError
from nemo_distill.nemo_files.weights import check_weights, not_finite

RESUME = "+exp_manager.resume_if_exists=true"


class _Seen(NamedTuple):
    """A batch since the last optimizer step, its loss, and the named terms of the loss."""

    batch: Any
    loss: Tensor
    terms: dict[str, Tensor]


class FiniteTraining(Callback):
    """Stops a training before an optimizer step whose loss or gradients are not finite.

    Once per optimizer step, it checks the sum of the losses and the gradient norm. Reading this number waits for the
    device, but the progress bar already does that in every step. With gradient scaling for half precision, infinite
    gradients are expected and the scaler skips the step, so only the losses are checked.
    """

    def __init__(self) -> None:
        self._batch: Any = None
        self._seen: list[_Seen] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_weights(pl_module, "Training did not start: the model")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._batch = batch

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        terms = getattr(pl_module, "step_losses", {})
        self._seen.append(_Seen(self._batch, loss.detach(), dict(terms)))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        seen, self._seen = self._seen, []
        total = torch.stack([one.loss.float() for one in seen]).sum()
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            total = total + torch.nn.utils.get_total_norm(gradients)
        if dist.is_initialized():
            dist.all_reduce(total)  # so that all processes stop together
        if not total.isfinite():
            raise NotFiniteError(_sentence(trainer, pl_module, seen))


def _sentence(trainer: Trainer, pl_module: LightningModule, seen: list[_Seen]) -> str:
    bad = [one for one in seen if not one.loss.isfinite()]
    what = _bad_losses(bad) if bad else _bad_gradients(pl_module)
    where = "".join(_origin(pl_module, one.batch) for one in bad or seen)
    return f"Training stopped in optimizer step {trainer.global_step + 1}: {what}.{where} {_last_checkpoint(trainer)}"


def _bad_losses(bad: list[_Seen]) -> str:
    terms = {name: value for one in bad for name, value in one.terms.items() if not value.isfinite()}
    named = ", ".join(f"{name} is {value.item()}" for name, value in terms.items())
    return f"the loss is not finite: {named or f'it is {bad[0].loss.item()}'}"


def _bad_gradients(pl_module: LightningModule) -> str:
    gradients = ((name, p.grad) for name, p in pl_module.named_parameters() if p.grad is not None)
    if names := not_finite(gradients):
        return f"the losses are finite, but the gradients are not, starting with '{names[0]}'"
    return "the losses of another process, or the total gradient norm, are not finite"


def _origin(pl_module: LightningModule, batch: Any) -> str:
    """Returns a sentence that says where the batch comes from, if the model provides it."""
    found = pl_module.batch_origin(batch) if hasattr(pl_module, "batch_origin") else ""
    return f" {found}" if found else ""


def _last_checkpoint(trainer: Trainer) -> str:
    folder = getattr(trainer.checkpoint_callback, "dirpath", None)
    checkpoints = sorted(Path(folder).glob("*.ckpt"), key=lambda path: path.stat().st_mtime) if folder else []
    if not checkpoints:
        return "There is no checkpoint to resume from, and no weights of this training were saved."
    return f"The last good checkpoint is '{checkpoints[-1]}'; the same command with {RESUME} resumes from it."
