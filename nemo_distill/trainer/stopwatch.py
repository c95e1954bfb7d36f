"""Ends a training after some seconds, and says how long its steps have taken."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Stopwatch(Callback):
    """Times optimizer steps in parts of equal length.

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
