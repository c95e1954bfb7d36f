"""Makes a resumed training identical to an uninterrupted one."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import console
from nemo_distill.nemo_files.host_fixes import (
    count_last_batch,
    forget_schedule_lengths,
    is_within_optimizer_step,
    last_batch,
    set_logged_step,
    validate_before_end,
    validate_on_resume,
)

STATE_WORDS = 624  # of a Mersenne Twister


class ExactResumeCallback(Callback):
    """Saves the random state of every process in each checkpoint, and restores it before the first resumed batch.

    If a checkpoint is written while gradients are being accumulated, the gradients are saved too. After resuming, it
    also corrects the step counter of the loggers: in a checkpoint after a validation, Lightning saves the counter
    before it counts the last batch. A validation that was interrupted is repeated as a whole, and no other one.

    A training that goes on to another length has the learning rates of that length from there on. One that has stopped
    early stays so, unless its patience has become larger.
    """

    def __init__(self) -> None:
        self._to_restore: list[dict[str, Any]] | None = None
        self._validated: int | None = -1  # the last batch with a finished validation; None if it is not known
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        state = _random_state() | {"step": _half_done_step(self._trainer)}
        states: list[Any] = [state]
        if dist.is_initialized():
            states = [None] * dist.get_world_size()
            dist.all_gather_object(states, state)
        return {"states": states, "validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validated = state_dict.get("validated")  # checkpoints of earlier versions lack it
        if self._trainer is not None and self._validated is not None:
            validate_before_end(self._trainer, self._validated)
        self._to_restore = [state | {"numpy": _checked_numpy_state(state["numpy"])} for state in state_dict["states"]]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        count_last_batch(checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        forget_schedule_lengths(checkpoint)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._to_restore is not None:
            validate_on_resume(trainer, last_batch(trainer) if self._validated is None else self._validated)
            trainer.should_stop |= any(one.wait_count >= one.patience for one in trainer.early_stopping_callbacks)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._validated = last_batch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._to_restore is None:
            return
        if len(self._to_restore) == trainer.world_size:
            state = self._to_restore[trainer.global_rank]
            _restore_random_state(state)
            _restore_half_done_step(pl_module, state.get("step"))
        elif trainer.is_global_zero:
            console.warning(
                f"Warning: the checkpoint was written by {len(self._to_restore)} processes and is resumed by "
                f"{trainer.world_size}. In this epoch, some batches may come twice or not at all, and random numbers, "
                "such as those of dropout, start anew."
            )
        set_logged_step(trainer)
        self._to_restore = None


def _half_done_step(trainer: Trainer | None) -> dict[str, Any] | None:
    """Returns the accumulated gradients and their weight, or None if no gradients are being accumulated."""
    if trainer is None or not is_within_optimizer_step(trainer):
        return None
    model = trainer.lightning_module
    gradients = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {"gradients": gradients, "weight": float(getattr(model, "step_weight", 0.0))}


def _restore_half_done_step(model: LightningModule, step: dict[str, Any] | None) -> None:
    if step is None:
        return
    for name, parameter in model.named_parameters():
        if name in step["gradients"]:
            parameter.grad = step["gradients"][name].to(parameter)
    if hasattr(model, "step_weight"):
        model.step_weight = step["weight"]


def _random_state() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": _numpy_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def _numpy_state() -> tuple[Any, ...]:
    """Returns numpy's state without an array of numpy's, because reading arrays of untrusted files is not safe."""
    kind, words, position, has_normal, normal = np.random.get_state()
    return str(kind), torch.from_numpy(words.astype(np.int64)), int(position), int(has_normal), float(normal)


def _checked_numpy_state(state: Any) -> tuple[Any, ...]:
    """Returns the state for `np.random.set_state`, which takes positions that the next draw reads out of bounds."""
    try:
        kind, words, position, has_normal, normal = state
        words = np.asarray(words)  # (624,); an array in checkpoints of earlier versions
        valid = (
            (kind, words.shape, words.dtype.kind in "iu") == ("MT19937", (STATE_WORDS,), True)
            and (words.min() >= 0 and words.max() < 1 << 32)
            and (type(position) is int and 0 <= position <= STATE_WORDS)
            and (type(has_normal) is int and type(normal) is float)
        )
    except (TypeError, ValueError, RuntimeError):
        valid = False
    if not valid:
        raise ConfigurationError(["the checkpoint cannot be resumed: the random state of numpy in it is damaged."])
    return kind, words.astype(np.uint32), position, has_normal, normal


def _restore_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
