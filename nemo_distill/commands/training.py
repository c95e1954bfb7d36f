"""The steps of a training that `train` and `distill` share, in NeMo's order."""

import errno
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, UnsupportedInterpolationType
from rich.console import Console

from nemo_distill.config.errors import ConfigurationError, DataError, NotFiniteError
from nemo_distill.console import Interrupted, console, set_up_console
from nemo_distill.experiments.run_settings import job_settings, new_record
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.host_fixes import replaced, whole_fragments, write_over_checkpoints
from nemo_distill.report.model_card import model_card, write_card
from nemo_distill.storage.files import writing
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.made_with import device_name
from nemo_distill.storage.run_record import RUNNING, RunRecord, read_run, recorded_run

# A disk that is full, read-only, somebody else's or broken; other errors of the system are ours.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
INTERRUPTED = """
Training was interrupted. With +exp_manager.resume_if_exists=true the same command goes on from the last checkpoint."""


def check(cfg: DictConfig, check_job: Callable[[DictConfig], list[str] | None]) -> None:
    """Ends the program with exit code 2 and every mistake in its configuration, if there is one; prints warnings."""
    try:
        warnings = check_job(cfg) or []
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except (InterpolationResolutionError, UnsupportedInterpolationType) as error:
        print(f"{error.full_key}: {str(error).splitlines()[0]}.", file=sys.stderr)
        sys.exit(2)
    set_up_console()
    for warning in warnings:
        console.warning(f"Warning: {warning}")


@contextmanager
def plain_errors(goes_on: bool = False) -> Iterator[None]:
    """Ends the program with a sentence, and no stack trace, where its input or a disk is bad, or at Ctrl-C.

    Args:
        goes_on: whether the same command, given again, goes on from what was done; else it starts over.
    """
    try:
        with replaced(threading, "excepthook", _show_thread):
            yield
    except (ConfigurationError, DataError, NotFiniteError) as error:
        raise SystemExit(f"\n{error}") from error
    except BrokenPipeError as error:  # whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from error
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = f"'{error.filename}': " if error.filename else ""
        remedy = f"the same command {'goes on' if goes_on else 'starts over'} once that is mended."
        raise SystemExit(f"\n{where}{error.strerror}. What was finished before is intact; {remedy}") from error
    except KeyboardInterrupt as interruption:
        again = "goes on from there" if goes_on else "starts over"
        raise Interrupted(f"\nInterrupted; the same command {again}.") from interruption


def resumes(cfg: DictConfig) -> bool:
    """True if a training goes on from its last checkpoint when its command is given again."""
    return bool((cfg.get("exp_manager") or {}).get("resume_if_exists"))


def _show_thread(ended: threading.ExceptHookArgs) -> None:
    """Shows why a thread has ended, but for a disk: those that write hand its errors on, as TensorBoard's does."""
    if not (isinstance(ended.exc_value, OSError) and ended.exc_value.errno in DISK_ERRORS):
        threading.__excepthook__(ended)


@contextmanager
def training_run(cfg: DictConfig) -> Iterator[Any]:
    """Builds a training's trainer, keeps `run.json` in its folder until it ends, then writes its model's card."""
    record = new_record(job_settings(cfg), RUNNING)
    folder = (cfg.get("exp_manager") or {}).get("explicit_log_dir")
    earlier = read_run(Path(folder)) if folder else None  # exp_manager moves it when it resumes
    with writing(Path(folder or ".")):
        yield from _recorded(cfg, record, earlier)


def _recorded(cfg: DictConfig, record: dict[str, Any], earlier: RunRecord | None) -> Iterator[Any]:
    trainer = build_trainer(cfg)
    if not (cfg.get("exp_manager") and trainer.is_global_zero):
        yield trainer
        return
    record["made_with"]["device"] = f"{trainer.world_size} x {device_name(str(trainer.strategy.root_device))}"
    seconds = (earlier or {}).get("seconds", 0.0) if trainer.ckpt_path else 0.0
    folder = Path(trainer.default_root_dir)
    with recorded_run(folder, record, lambda: _outcome(trainer), seconds):
        yield trainer
    for written in _models_in(folder):
        write_card(written.with_suffix(".md"), model_card(written, folder))


def _models_in(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("*.nemo"))


def _outcome(trainer: Any) -> dict[str, Any]:
    """What a training has reached: its best and last scores, the models' sizes, and the `.nemo` that it wrote."""
    model, checkpoint = trainer.lightning_module, trainer.checkpoint_callback
    best = checkpoint.best_model_score if checkpoint else None
    return {
        "steps": getattr(trainer, "last_step", trainer.global_step),
        "best": None if best is None else {"monitor": checkpoint.monitor, "value": float(best)},
        "scores": {name: value.item() for name, value in trainer.callback_metrics.items()},
        "parameters": getattr(model, "student", model).number_of_parameters(),
        "teacher_parameters": getattr(model, "teacher_parameters", None),
        "models": [fingerprint(path) for path in _models_in(Path(trainer.default_root_dir))],
    }


def build_trainer(cfg: DictConfig) -> Any:
    """Returns the Lightning trainer of the config, seeded, with exp_manager's logs, checkpoints and resuming."""
    import lightning.pytorch as pl
    from lightning.pytorch.utilities.exceptions import MisconfigurationException
    from nemo.utils.exceptions import NeMoBaseException
    from nemo.utils.exp_manager import exp_manager

    from nemo_distill.trainer.exact_resume import ExactResumeCallback
    from nemo_distill.trainer.finite import FiniteTraining
    from nemo_distill.trainer.logged_progress import LoggedProgress
    from nemo_distill.trainer.safe_checkpoints import SafeCheckpointIO, checkpoint_folder, settle_checkpoints

    pl.seed_everything(cfg.get("seed", 0), workers=True)
    options = OmegaConf.to_container(cfg.trainer, resolve=True)
    if options.get("strategy") == "ddp" and cfg.model.get("find_unused_parameters", True):
        options["strategy"] = "ddp_find_unused_parameters_true"
    # NeMo goes back to the best checkpoint at the end, and takes the step's number with it.
    keep_step = pl.callbacks.LambdaCallback(on_train_end=lambda end, _: setattr(end, "last_step", end.global_step))
    callbacks = [ExactResumeCallback(), FiniteTraining(), keep_step]
    if options.get("enable_progress_bar", True) and not Console().is_terminal:
        callbacks.append(LoggedProgress())
    try:
        trainer = pl.Trainer(**options, callbacks=callbacks, plugins=[SafeCheckpointIO()])
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ConfigurationError([f"trainer: {error}"]) from error
    if resumes(cfg):
        if trainer.is_global_zero:
            settle_checkpoints(checkpoint_folder(cfg.exp_manager))
        with open_dict(cfg):  # the first attempt has nothing to resume, which NeMo takes for a mistake
            cfg.exp_manager.setdefault("resume_ignore_no_checkpoint", True)
    try:
        exp_manager(trainer, cfg.get("exp_manager"))
    except (MisconfigurationException, NeMoBaseException, OmegaConfBaseException, TypeError, ValueError) as error:
        raise ConfigurationError([f"exp_manager: {' '.join(str(error).split())}"]) from error
    if resumes(cfg):
        write_over_checkpoints(trainer)
    if trainer.ckpt_path:
        console.info(f"Resuming from {trainer.ckpt_path}")
    return trainer


def preprocess_data(model: DictConfig, trainer: Any) -> None:
    """Where `model.preproc_out_dir` is set: trains tokenizers, writes tarred data and puts their paths in `model`.

    Raises:
        ConfigurationError: if all of the batches are fewer than one tar file must hold.
    """
    if not model.get("preproc_out_dir"):
        return
    from nemo.collections.nlp.data.machine_translation.preproc_mt_data import MTDataPreproc

    discarded = _DiscardedBatches(model.train_ds.get("num_batches_per_tarfile", 1000))
    logger = logging.getLogger("nemo_logger")
    logger.filters.insert(0, discarded)  # before what hides NeMo's lines
    try:
        with whole_fragments(), open_dict(model):
            MTDataPreproc(cfg=model, trainer=trainer)
    except ValueError as error:
        if discarded.kept_nothing:
            raise ConfigurationError(discarded.sentences) from error
        raise
    finally:
        logger.removeFilter(discarded)
    for sentence in discarded.sentences:
        console.warning(f"Warning: {sentence}")


class _DiscardedBatches(logging.Filter):
    """Reads in NeMo's log how many batches are in no tar file, which it says at a level that nobody sees.

    Every tar file must hold as many batches as the others, or devices would have different numbers of them; NeMo
    leaves out those that do not fill one.

    Args:
        per_file: the batches of a tar file.
    """

    def __init__(self, per_file: int):
        super().__init__()
        self.per_file, self.kept_nothing = per_file, False
        self.sentences: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets everything pass."""
        found = re.search(r"batches discarded: (\d+), total batches kept: (\d+)", record.getMessage())
        if found and (discarded := int(found[1])):
            kept = int(found[2])
            self.kept_nothing |= not kept
            self.sentences.append(
                f"model.train_ds.num_batches_per_tarfile={self.per_file}: {discarded:,} of {discarded + kept:,} "
                "batches are left out, because they do not fill a tar file; a smaller number leaves out fewer, 1 none."
            )
        return True


def start_from_nemo(cfg: DictConfig, model: Any) -> None:
    """Where `init_from_nemo_model` names a `.nemo`: gives `model`, or a distillation's student, the weights in it."""
    if path := cfg.get("init_from_nemo_model"):
        from nemo_distill.nemo_files.restore import restore_for_inference

        model.start_from(restore_for_inference(type(model), path), str(path))
        with open_dict(model.cfg):
            model.cfg.started_from = {"model": str(path), "sha256": NemoArchive(path).sha256()}


def run_job(cfg: DictConfig, trainer: Any, model: Any) -> None:
    """Trains and tests `model`, as `do_training` and `do_testing` say.

    Raises:
        Interrupted: with code 1, if training was interrupted.
    """
    from nemo_distill.trainer.safe_checkpoints import complete_training

    if cfg.get("do_training", True):
        try:
            trainer.fit(model)
        except SystemExit as interruption:  # Lightning's way to end on Ctrl-C and, with exit code 0, on SIGTERM
            raise Interrupted(INTERRUPTED) from interruption
        if trainer.interrupted:  # Lightning's way before 2.3
            raise Interrupted(INTERRUPTED)
        complete_training(trainer, model)
    if cfg.get("do_testing", False):
        trainer.test(model)
