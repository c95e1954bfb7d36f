"""Counts how long a model is trained: optimizer steps, and real target tokens."""

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class TrainingLength(Callback):
    """Counts the real target tokens of all batches, over all devices, without padding.

    The count is saved in checkpoints, so a resumed training counts each batch once. At the end of a training, NeMo
    restores the best checkpoint and with it an earlier step and count, so both are kept before that.
    """

    def __init__(self) -> None:
        self._before: int | None = 0  # up to the checkpoint that was resumed; None if that does not contain it
        self._since: Tensor | int = 0  # since then, on this device
        self._known: int | None = 0  # on all devices, when it was last added up
        self._is_resumed = False
        self._ended: dict[str, int | None] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Adds up the tokens of all devices. All processes must call it together."""
        since = torch.as_tensor(self._since).clone()
        if _is_distributed():
            since = since.to("cuda" if dist.get_backend() == "nccl" else "cpu")
            dist.all_reduce(since)
        self._known = None if self._before is None else self._before + int(since)
        return {"target_tokens": self._known}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = self._known = state_dict["target_tokens"]
        self._since, self._is_resumed = 0, True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step and not self._is_resumed:
            self._before = self._known = None  # the checkpoint is from an earlier version

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        model: Any = getattr(pl_module, "student", pl_module)
        self._since = self._since + model.distillation_batch_weight(batch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = {"steps": trainer.global_step, **self.state_dict()}

    def so_far(self, trainer: Trainer) -> dict[str, int | None]:
        """Returns `steps` and `target_tokens`; one process may call it alone.

        After an interruption on several devices, the tokens are those of the last checkpoint.
        """
        if self._ended is None and not _is_distributed():
            self.state_dict()
        return self._ended or {"steps": trainer.global_step, "target_tokens": self._known}


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
