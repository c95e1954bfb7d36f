"""The steps of a training job that its Hydra scripts share, in NeMo's order."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.core.config import ConfigurationError
from nemo_distill.core.console import console, set_up_console
from nemo_distill.core.nemo_archive import NemoArchive
from nemo_distill.data.output_files import fingerprint
from nemo_distill.data.text_lines import DataError
from nemo_distill.evaluation.made_with import device_name
from nemo_distill.run_record import RUNNING, Interrupted, job_settings, new_record, read_run, recorded_run

INTERRUPTED = """
Training was interrupted. With +exp_manager.resume_if_exists=true the same command goes on from the last checkpoint."""


def check(cfg: DictConfig, check_job: Callable[[DictConfig], list[str] | None]) -> None:
    """Ends the program with exit code 2 and every mistake in its configuration, if there is one; prints warnings."""
    try:
        warnings = check_job(cfg) or []
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    set_up_console()
    for warning in warnings:
        console.warning(f"Warning: {warning}")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Ends the program with a sentence, and no stack trace, where data cannot be used or Ctrl-C was pressed."""
    try:
        yield
    except (ConfigurationError, DataError) as error:
        raise SystemExit(f"\n{error}") from error
    except KeyboardInterrupt as interruption:
        raise Interrupted("\nInterrupted; the same command goes on from there.") from interruption


@contextmanager
def training_run(cfg: DictConfig) -> Iterator[Any]:
    """Builds the trainer of a training, and keeps `run.json` in its folder until the training ends."""
    record = new_record(job_settings(cfg), RUNNING)
    folder = (cfg.get("exp_manager") or {}).get("explicit_log_dir")
    with plain_errors():
        earlier = read_run(Path(folder)) if folder else None  # exp_manager moves it when it resumes
    trainer = build_trainer(cfg)
    if not (cfg.get("exp_manager") and trainer.is_global_zero):
        yield trainer
        return
    record["made_with"]["device"] = f"{trainer.world_size} x {device_name(str(trainer.strategy.root_device))}"
    seconds = (earlier or {}).get("seconds", 0.0) if trainer.ckpt_path else 0.0
    with recorded_run(Path(trainer.default_root_dir), record, lambda: _outcome(trainer), seconds):
        yield trainer


def _outcome(trainer: Any) -> dict[str, Any]:
    """What a training has reached: its best and last scores, the models' sizes, and the `.nemo` that it wrote."""
    model, checkpoint = trainer.lightning_module, trainer.checkpoint_callback
    best = checkpoint.best_model_score if checkpoint else None
    written = sorted((Path(trainer.default_root_dir) / "checkpoints").glob("*.nemo"))
    return {
        "steps": trainer.global_step,
        "best": None if best is None else {"monitor": checkpoint.monitor, "value": best.item()},
        "scores": {name: value.item() for name, value in trainer.callback_metrics.items()},
        "parameters": _parameters(getattr(model, "student", model)),
        "teacher_parameters": _parameters(getattr(model, "teacher", None)),
        "models": [fingerprint(path) for path in written],
    }


def _parameters(model: Any) -> int | None:
    """The number of a model's parameters; None without a model, or of a teacher that is but a cache."""
    return sum(parameter.numel() for parameter in model.parameters()) if hasattr(model, "parameters") else None


def build_trainer(cfg: DictConfig) -> Any:
    """Returns the Lightning trainer of the config, seeded, with exp_manager's logs, checkpoints and resuming."""
    import lightning.pytorch as pl
    from nemo.utils.exp_manager import exp_manager

    from nemo_distill.core.exact_resume import ExactResumeCallback
    from nemo_distill.core.safe_checkpoints import SafeCheckpointIO

    pl.seed_everything(cfg.get("seed", 0), workers=True)
    options = OmegaConf.to_container(cfg.trainer, resolve=True)
    if options.get("strategy") == "ddp" and cfg.model.get("find_unused_parameters", True):
        options["strategy"] = "ddp_find_unused_parameters_true"
    trainer = pl.Trainer(**options, callbacks=[ExactResumeCallback()], plugins=[SafeCheckpointIO()])
    exp_manager(trainer, cfg.get("exp_manager"))
    if trainer.ckpt_path:
        console.info(f"Resuming from {trainer.ckpt_path}")
    return trainer


def preprocess_data(model: DictConfig, trainer: Any) -> None:
    """Where `model.preproc_out_dir` is set: trains tokenizers, writes tarred data and puts their paths in `model`."""
    if not model.get("preproc_out_dir"):
        return
    from nemo.collections.nlp.data.machine_translation.preproc_mt_data import MTDataPreproc

    # NeMo ends the last fragment at line -1, so that its lines are lost: all of them, in a corpus of one fragment.
    with mock.patch.object(MTDataPreproc, "_get_lines_partition", staticmethod(_fragments)), open_dict(model):
        MTDataPreproc(cfg=model, trainer=trainer)


def _fragments(num_lines: int, lines_per_fragment: int) -> list[list[int]]:
    return [[start, start + lines_per_fragment] for start in range(0, num_lines, lines_per_fragment)]


def start_from_nemo(cfg: DictConfig, model: Any) -> None:
    """Where `init_from_nemo_model` names a `.nemo`: gives `model`, or a distillation's student, the weights in it."""
    if path := cfg.get("init_from_nemo_model"):
        from nemo_distill.core.restore import restore_for_inference

        started = restore_for_inference(type(model), path)
        model.load_state_dict(started.state_dict())
        with open_dict(model.cfg):
            model.cfg.started_from = {"model": str(path), "sha256": NemoArchive(path).sha256()}


def run_job(cfg: DictConfig, trainer: Any, model: Any) -> None:
    """Trains and tests `model`, as `do_training` and `do_testing` say.

    Raises:
        Interrupted: with code 1, if training was interrupted.
    """
    if cfg.get("do_training", True):
        try:
            trainer.fit(model)
        except SystemExit as interruption:  # Lightning's way to end on Ctrl-C and, with exit code 0, on SIGTERM
            raise Interrupted(INTERRUPTED) from interruption
    if cfg.get("do_testing", False):
        trainer.test(model)
