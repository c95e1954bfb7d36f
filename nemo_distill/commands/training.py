"""The steps that `train` and `distill` share, in NeMo's order."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.config.known_keys import CONVERTING
from nemo_distill.config.overrides import typed
from nemo_distill.console import Interrupted, console
from nemo_distill.experiments.training_record import check_earlier, new_record, recorded_training
from nemo_distill.models.distillation_section import read_distillation
from nemo_distill.models.student_config import teacher_archives
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.host_fixes import step_validation, write_over_checkpoints
from nemo_distill.nemo_files.model_kinds import config_width
from nemo_distill.nemo_files.translation_archive import teacher_archive
from nemo_distill.storage.files import LOCK, locked, writing
from nemo_distill.storage.run_record import RUNNING, read_run
from nemo_distill.text.selected_by import training_selected_by

WORKERS_END = 6.0  # seconds; after a kill, data loader workers keep the folder's lock until they notice, within 5
# In what Lightning says of keys that only data, or the first scores, show to be wrong.
WRONG_KEYS = ("val_check_interval", "Early stopping conditioned on metric", "could not find the monitored key")


def resumes(cfg: DictConfig) -> bool:
    """True if the same command resumes a training from its last checkpoint."""
    return bool((cfg.get("exp_manager") or {}).get("resume_if_exists"))


@contextmanager
def training_run(cfg: DictConfig) -> Iterator[Any]:
    """Builds the trainer, keeps `run.json` up to date during the training, then writes the model card."""
    from nemo_distill.trainer.safe_checkpoints import checkpoint_folder, log_folder  # imports torch

    record, manager = new_record(cfg, RUNNING), cfg.get("exp_manager") or {}
    folder, earlier = Path(), None
    is_named = bool(manager.get("explicit_log_dir") or resumes(cfg))  # otherwise NeMo names a new folder by the time
    if is_named:
        folder = log_folder(manager)
        if any(checkpoint_folder(manager).glob("[!.]*")):
            earlier = read_run(folder)  # now, because exp_manager moves it when it resumes
            check_earlier(folder, checkpoint_folder(manager), earlier, record, resumes(cfg))
    with writing(folder):
        precision = choose_precision(cfg, (earlier or {}).get("made_with"))
        trainer = _new_trainer(cfg)
        with _alone(checkpoint_folder(manager) if is_named and trainer.is_global_zero else None):
            _set_up_manager(cfg, trainer)
            if not (cfg.get("exp_manager") and trainer.is_global_zero):
                yield trainer
                return
            record["made_with"] |= precision
            with recorded_training(cfg, trainer, record, earlier):
                yield trainer


@contextmanager
def _alone(folder: Path | None) -> Iterator[None]:
    """Within this context, no other training writes into a folder of checkpoints, if there is one."""
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    last_try = time.monotonic() + WORKERS_END
    while True:
        with locked(folder / LOCK, wait=False) as lock:
            if lock is not None:
                yield
                return
        if time.monotonic() > last_try:
            raise DataError(f"another process is training into '{folder}'; wait for its end, or give another folder")
        time.sleep(0.5)


def choose_precision(cfg: DictConfig, earlier: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Replaces `trainer.precision=auto` by what it means here, and `teacher_precision=null` with it.

    Args:
        cfg: the configuration of a training.
        earlier: `made_with` of its beginning if it goes on, maybe on another machine: it keeps its precision.

    Returns:
        `precision`, and `teacher_precision`, that of its weights, if a teacher computes while the student trains.
    """
    from nemo_distill.trainer.precision import (
        AUTO,
        MIXED,
        bfloat16_unit,
        precision_for,
        tell_choice,
        warn_of_emulation,
    )

    accelerator = cfg.trainer.get("accelerator") or "auto"
    model = OmegaConf.to_container(cfg.model, resolve=True)
    section = read_distillation(model, "model.distillation")[0] if model.get("distillation") else None
    teachers = teacher_archives(section) if section else []  # or those that made the cache
    teacher = min((config_width(teacher_archive(path).config) for path in teachers), default=0)
    if cfg.trainer.get("precision") == AUTO and earlier and "precision" in earlier:
        with open_dict(cfg):
            cfg.trainer.precision = earlier["precision"]
            if section and earlier.get("teacher_precision") == "bfloat16" and not section.share_encoder:
                cfg.model.distillation.teacher_precision = "bfloat16"
        console.info(f"trainer.precision=auto: {earlier['precision']}, in which this training began.")
    elif cfg.trainer.get("precision") == AUTO:
        unit = bfloat16_unit(accelerator)
        width = teacher if section and section.same_size_as_teacher else config_width(model)
        with open_dict(cfg):
            cfg.trainer.precision = precision_for(width, unit)
            if section and not (section.teacher_precision or section.teacher_cache or section.share_encoder):
                is_mixed = precision_for(teacher, unit) == MIXED
                cfg.model.distillation.teacher_precision = "bfloat16" if is_mixed else None
        tell_choice("trainer.precision", cfg.trainer.precision, width, unit)
    chosen = {"precision": str(cfg.trainer.get("precision"))}
    if section and not section.teacher_cache:
        converted = CONVERTING.get(chosen["precision"], "float32")
        chosen["teacher_precision"] = cfg.model.distillation.get("teacher_precision") or converted
        console.info(f"The teacher's weights are in {chosen['teacher_precision']}.")
        warn_of_emulation("model.distillation.teacher_precision", chosen["teacher_precision"], accelerator)
    warn_of_emulation("trainer.precision", chosen["precision"], accelerator)
    return chosen


def build_trainer(cfg: DictConfig) -> Any:
    """Returns a seeded Lightning trainer with exp_manager's logging, checkpoints and resuming."""
    trainer = _new_trainer(cfg)
    _set_up_manager(cfg, trainer)
    return trainer


def _new_trainer(cfg: DictConfig) -> Any:
    import lightning.pytorch as pl
    from lightning.pytorch.strategies import DDPStrategy

    from nemo_distill.trainer.safe_checkpoints import SafeCheckpointIO

    pl.seed_everything(cfg.get("seed", 0), workers=True)
    options = OmegaConf.to_container(cfg.trainer, resolve=True)
    callbacks = _callbacks(cfg.get("ema"), options.get("enable_progress_bar", True))
    try:
        build = partial(pl.Trainer, plugins=[SafeCheckpointIO()])
        trainer = build(**options, callbacks=[*callbacks])
        # Lightning alone knows whether `auto` stands for DDP on these devices.
        uses_ddp = options.get("strategy") in (None, "auto", "ddp") and isinstance(trainer.strategy, DDPStrategy)
        if uses_ddp and cfg.model.get("find_unused_parameters", True):
            options["strategy"] = "ddp_find_unused_parameters_true"
            trainer = build(**options, callbacks=[*callbacks])
    except _wrong_keys() as error:
        raise ConfigurationError([f"trainer: {error}"]) from error
    return trainer


def _wrong_keys() -> tuple[type[Exception], ...]:
    """What Lightning raises for wrong keys, or missing packages."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    return MisconfigurationException, ImportError, TypeError, ValueError


def _set_up_manager(cfg: DictConfig, trainer: Any) -> None:
    from nemo.utils.exceptions import NeMoBaseException
    from nemo.utils.exp_manager import exp_manager

    from nemo_distill.trainer.safe_checkpoints import checkpoint_folder, settle_checkpoints

    if resumes(cfg):
        if trainer.is_global_zero:
            settle_checkpoints(checkpoint_folder(cfg.exp_manager))
        with open_dict(cfg):  # NeMo treats the first attempt, which has nothing to resume, as an error
            cfg.exp_manager.setdefault("resume_ignore_no_checkpoint", True)
    _stop_after_validations(cfg)
    try:
        if cfg.get("exp_manager"):
            with step_validation(trainer):
                exp_manager(trainer, cfg.exp_manager)
    except (*_wrong_keys(), NeMoBaseException, OmegaConfBaseException) as error:
        raise ConfigurationError([f"exp_manager: {' '.join(str(error).split())}"]) from error
    if resumes(cfg):
        write_over_checkpoints(trainer)
    if trainer.ckpt_path:
        console.info(f"Resuming from {trainer.ckpt_path}")


def _stop_after_validations(cfg: DictConfig) -> None:
    """Makes early stopping look at the score of each validation, before the checkpoint of that validation is written.

    With a validation per epoch, Lightning looks after that. A training that resumes at the end of an epoch then has no
    score, which is an error.
    """
    manager: Any = cfg.get("exp_manager") or {}
    if manager.get("create_early_stopping_callback") and cfg.model.get("validation_ds"):
        with open_dict(cfg):
            stopping = manager.get("early_stopping_callback_params") or {}
            cfg.exp_manager.early_stopping_callback_params = {"check_on_train_epoch_end": False, **stopping}


def _callbacks(ema: float | None, shows_progress: bool) -> list[Any]:
    """Returns our additions to Lightning."""
    from nemo_distill.trainer.exact_resume import ExactResumeCallback
    from nemo_distill.trainer.finite import FiniteTraining
    from nemo_distill.trainer.interruption import SavedInterruption
    from nemo_distill.trainer.training_length import LoggedProgress, TrainingLength
    from nemo_distill.trainer.weight_average import WeightAverage

    callbacks = [WeightAverage(ema), ExactResumeCallback(), FiniteTraining(), TrainingLength(), SavedInterruption()]
    return [*callbacks, LoggedProgress()] if shows_progress and not Console().is_terminal else callbacks


def start_from_nemo(cfg: DictConfig, model: Any) -> None:
    """Initializes `model` with the weights of `init_from_nemo_model`, if that is set."""
    if path := cfg.get("init_from_nemo_model"):
        from nemo_distill.nemo_files.restore import restore_for_inference

        model.start_from(restore_for_inference(type(model), path), str(path))
        with open_dict(model.cfg):
            model.cfg.started_from = {"model": str(path), "sha256": NemoArchive(path).sha256()}


def _record_labels(cfg: DictConfig, model: Any) -> None:
    """Lists in the model's config the metrics that selected labels for it, or for the model that it starts from."""
    names = set(training_selected_by(cfg.model.get("train_ds") or {}))
    if path := cfg.get("init_from_nemo_model"):
        names |= {*NemoArchive(path).config.get("labels_selected_by", [])}
    if names:
        with open_dict(model.cfg):
            model.cfg.labels_selected_by = sorted(names)


def _how_to_go_on(cfg: DictConfig, trainer: Any, why: str = "") -> str:
    """Returns what an interrupted training says: the keys with which the same command goes on.

    Args:
        why: continues the sentence "Training was interrupted".
    """
    manager = cfg.get("exp_manager")
    if manager is None:
        return "\nTraining was interrupted. Without exp_manager, nothing of it was saved."
    wanted = {
        "explicit_log_dir": typed("exp_manager.explicit_log_dir", trainer.default_root_dir),
        "resume_if_exists": "exp_manager.resume_if_exists=true",
    }
    keys = [f"{'' if key in manager else '+'}{override}" for key, override in wanted.items() if not manager.get(key)]
    with_keys = f"With {' '.join(keys)} the same command" if keys else "The same command"
    return f"\nTraining was interrupted{why}. {with_keys} goes on from the last checkpoint."


def run_job(cfg: DictConfig, trainer: Any, model: Any) -> None:
    """Trains and tests `model`, according to `do_training` and `do_testing`.

    Raises:
        Interrupted: with exit code 1, if the training is interrupted, or its time is over before its last step.
    """
    from nemo_distill.trainer.interruption import is_out_of_time
    from nemo_distill.trainer.safe_checkpoints import complete_training

    if cfg.get("do_training", True):
        _record_labels(cfg, getattr(model, "student", model))
        try:
            trainer.fit(model)
        except SystemExit as interruption:  # raised by Lightning on Ctrl-C and, with exit code 0, on SIGTERM
            raise Interrupted(_how_to_go_on(cfg, trainer)) from interruption
        except Exception as error:
            if not any(words in str(error) for words in WRONG_KEYS):
                raise
            raise ConfigurationError([f"trainer: {' '.join(str(error).split())}"]) from error
        if trainer.interrupted:  # Lightning before 2.3
            raise Interrupted(_how_to_go_on(cfg, trainer))
        if is_out_of_time(trainer):
            limit = f"exp_manager.max_time_per_run={cfg.exp_manager.max_time_per_run}"
            raise Interrupted(_how_to_go_on(cfg, trainer, f", because {limit} is over"))
        complete_training(trainer, model)
        if trainer.global_step < trainer.max_steps and trainer.current_epoch == trainer.max_epochs:
            console.warning(
                f"trainer.max_epochs={trainer.max_epochs} ended the training after {trainer.global_step:,} of "
                f"trainer.max_steps={trainer.max_steps} steps; max_epochs=-1 is no limit."
            )
    if cfg.get("do_testing", False):
        trainer.ckpt_path = None  # else Lightning tests the weights that the training has resumed from
        trainer.test(model)
