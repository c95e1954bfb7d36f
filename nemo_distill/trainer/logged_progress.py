"""Logs the progress of a training when there is no terminal for Lightning's progress bar."""

import math
from typing import Any

from lightning.pytorch.callbacks import ProgressBar

from nemo_distill.progress import Meter, MinuteLog


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
