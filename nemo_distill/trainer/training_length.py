"""How long a training is: counted in steps, epochs and real target tokens, timed, and logged where no bar is shown."""

import math
import time
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor

from nemo_distill.progress import Meter, MinuteLog


class TrainingLength(Callback):
    """Counts epochs, and the target tokens of all batches, over all devices, without padding.

    The count is saved in checkpoints, so a resumed training counts each batch once. At the end of a training, NeMo
    restores the best checkpoint and with it an earlier step and count, so both are kept before that.
    """

    def __init__(self) -> None:
        self._before: int | None = 0  # up to the checkpoint that was resumed; None if that does not contain it
        self._since: Tensor | int = 0  # since then, on this device
        self._known: int | None = 0  # on all devices, when it was last added up
        self._epochs: float | None = 0.0  # None where the data has no length, and as above
        self._is_resumed = False
        self._ended: dict[str, float | None] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Adds up the tokens of all devices. All processes must call it together."""
        since = torch.as_tensor(self._since).clone()
        if _is_distributed():
            since = since.to("cuda" if dist.get_backend() == "nccl" else "cpu")
            dist.all_reduce(since)
        self._known = None if self._before is None else self._before + int(since)
        return {"epochs": self._epochs, "target_tokens": self._known}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = self._known = state_dict["target_tokens"]
        self._epochs = state_dict.get("epochs")
        self._since, self._is_resumed = 0, True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step and not self._is_resumed:
            self._before = self._known = self._epochs = None  # the checkpoint is from an earlier version

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        model: Any = getattr(pl_module, "student", pl_module)
        self._since = self._since + model.number_of_targets(batch)
        batches = trainer.num_training_batches
        self._epochs = None if self._epochs is None or math.isinf(batches) else self._epochs + 1 / batches

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.state_dict()
        self._ended = self._length(trainer)

    def so_far(self, trainer: Trainer) -> dict[str, float | None]:
        """Returns `steps`, `epochs` and `target_tokens`; one process may call it alone.

        After an interruption on several devices, the tokens are those of the last checkpoint.
        """
        if self._ended is None and not _is_distributed():
            self.state_dict()
        return self._ended or self._length(trainer)

    def _length(self, trainer: Trainer) -> dict[str, float | None]:
        epochs = None if self._epochs is None else round(self._epochs, 4)
        return {"steps": trainer.global_step, "epochs": epochs, "target_tokens": self._known}


def _is_distributed() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


class LoggedProgress(ProgressBar):
    """Replaces the progress bar in a log file, where the bar would print each of its states.

    It logs one line per minute for training and validation.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._training = self._validation = MinuteLog("", Meter(math.inf))  # until each of them starts
        self._validated = 0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        steps = trainer.estimated_stepping_batches  # -1 if the data has no length
        self._training = MinuteLog("training", Meter(steps if steps >= 0 else math.inf, "steps"))
        self._training(trainer.global_step, 0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        done = trainer.global_step - self._training.meter.position  # 0 while gradients are accumulated
        if self._enabled and done:
            self._training(trainer.global_step, done, lambda: self._step(trainer, pl_module))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        total = sum(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)
        self._validation, self._validated = MinuteLog("validating", Meter(total, "batches")), 0

    def on_validation_batch_end(self, *_: Any) -> None:
        if self._enabled:
            self._validated += 1
            self._validation(self._validated, 1)

    def _step(self, trainer: Any, pl_module: Any) -> str:
        shown = [f"epoch {trainer.current_epoch}", f"step {trainer.global_step:,}"]
        for name, value in self.get_metrics(trainer, pl_module).items():
            if name != "v_num" and not name.endswith("timing in s"):  # the rate already shows the time
                shown.append(f"{name} {float(value):.4g}")
        return ", ".join(shown)


class Stopwatch(Callback):
    """Times optimizer steps in parts of equal length, and ends the training after the last part.

    `repeats` has the mean seconds of a step of each part, and `began` the time of the first measured step.

    Args:
        seconds: the time after which the training ends, from the first measured step.
        first_steps: steps before, which are slower.
        parts: number of parts. Each has at least one step.
    """

    def __init__(self, seconds: float, first_steps: int, parts: int):
        self.seconds, self.first_steps, self.parts = seconds / parts, first_steps, parts
        self.repeats: list[float] = []
        self.began = self._part = 0.0
        self._last = self._step = -1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step < self.first_steps or step == self._last:  # while gradients are accumulated, no step is done
            return
        self._last = step
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._step < 0:
            self.began = self._part = now
            self._step = step
        elif now - self._part >= self.seconds:
            self.repeats.append((now - self._part) / (step - self._step))
            self._part, self._step = now, step
            trainer.should_stop = len(self.repeats) == self.parts
