"""Saves a training that is told to stop, so that no step is repeated, and tells if its time was over."""

import signal
import threading
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from nemo.utils.exp_manager import StatelessTimer

from nemo_distill.console import console
from nemo_distill.nemo_files.host_fixes import save_last_checkpoint


class SavedInterruption(Callback):
    """Writes the `-last.ckpt` of a training on one device that SIGTERM or Ctrl-C ends.

    Lightning raises `SIGTERMException` between two batches, also of a validation. A validation that was interrupted is
    repeated as a whole by the resumed training. A second Ctrl-C ends the training at once, and then nothing is saved.

    The processes of several devices get a signal in different steps, so that they cannot save together. There, NeMo's
    `PreemptionCallback` handles SIGTERM, and Ctrl-C ends the training at once.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        in_main = threading.current_thread() is threading.main_thread()  # others cannot set handlers
        if trainer.world_size == 1 and in_main and signal.getsignal(signal.SIGINT) == signal.default_int_handler:
            signal.signal(signal.SIGINT, _stop_after_this_step)  # until Lightning restores all handlers after the fit

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        is_told_to = isinstance(exception, SIGTERMException) and trainer.world_size == 1
        if is_told_to and (trainer.training or trainer.validating):
            save_last_checkpoint(trainer)


def is_out_of_time(trainer: Trainer) -> bool:
    """True if `exp_manager.max_time_per_run` ended the training and steps remain. Lightning then calls it finished.

    NeMo's timer ends it by an exception, so that Lightning does not tell the timer the end of the training.
    """
    timers = [callback for callback in trainer.callbacks if isinstance(callback, StatelessTimer)]
    is_over = any(timer.end_time() is None and timer.time_remaining() <= 0 for timer in timers)
    return is_over and not 0 <= trainer.max_steps <= trainer.global_step


def _stop_after_this_step(number: int, frame: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    console.info("Stopping after this step. Ctrl-C again stops at once, and the steps since the last save are lost.")
    signal.raise_signal(signal.SIGTERM)
