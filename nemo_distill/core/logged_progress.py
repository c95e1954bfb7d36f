"""What a training says where there is no terminal to draw Lightning's bar on."""

from typing import Any

from lightning.pytorch.callbacks import ProgressBar

from nemo_distill.core.console import console
from nemo_distill.data.progress import Meter, MinuteLog


class LoggedProgress(ProgressBar):
    """Takes the bar's place in a log, which would hold each of its states.

    A line a minute tells how far the training or a validation is, and a line after each validation its scores.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._training: MinuteLog | None = None
        self._validation: MinuteLog | None = None
        self._validated = 0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._training = MinuteLog("training", Meter(trainer.estimated_stepping_batches, "steps"))
        self._training(trainer.global_step, 0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        done = trainer.global_step - self._training.meter.position  # none, where gradients are accumulated
        if self._enabled and done:
            self._training(trainer.global_step, done, lambda: self._step(trainer, pl_module))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        total = sum(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)
        self._validation, self._validated = MinuteLog("validating", Meter(total, "batches")), 0

    def on_validation_batch_end(self, *_: Any) -> None:
        if self._enabled:
            self._validated += 1
            self._validation(self._validated, 1)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._enabled and not trainer.sanity_checking:
            scores = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("val")}
            console.info(f"step {trainer.global_step:,}: {_shown(scores)}")

    def _step(self, trainer: Any, pl_module: Any) -> str:
        shown = self.get_metrics(trainer, pl_module)
        return f"epoch {trainer.current_epoch}, step {trainer.global_step:,}, {_shown(shown)}"


def _shown(values: dict[str, Any]) -> str:
    """Losses, scores and rates; neither the number of a log's folder nor times, which the rate tells."""
    return ", ".join(
        f"{name} {float(value):.4g}"
        for name, value in values.items()
        if name != "v_num" and not name.endswith("timing in s")
    )
