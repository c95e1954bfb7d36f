"""Makes a resumed training the same as an uninterrupted one, in its random numbers and in the steps that it logs."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer


class ExactResumeCallback(Callback):
    """Saves the random state of every process in each checkpoint, and restores it before the first resumed batch.

    Also sets right the step that loggers see: in a checkpoint that follows a validation, Lightning saves it before it
    has counted the last batch.
    """

    def __init__(self) -> None:
        self._to_restore: list[dict[str, Any]] | None = None

    def state_dict(self) -> dict[str, Any]:
        states = [_random_state()]
        if dist.is_available() and dist.is_initialized():
            states = [None] * dist.get_world_size()
            dist.all_gather_object(states, _random_state())
        return {"states": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._to_restore = state_dict["states"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._to_restore is None:
            return
        if len(self._to_restore) == trainer.world_size:
            _restore_random_state(self._to_restore[trainer.global_rank])
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        self._to_restore = None


def _random_state() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
