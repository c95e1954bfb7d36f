"""Sweeps: runs Hydra's `-m` over trainings, each in a folder named after the swept values. Finished ones are skipped.

Each training runs in its own process, with the command that would start it alone. With every launcher, it has its own
memory, loggers and devices, and a killed training does not stop the others. The `run.json` of a training holds its
settings and inputs, so that only one that is still the same is skipped.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.console import Interrupted, console, set_up_console, sigterm_as_exception
from nemo_distill.nemo_files.model_kinds import SIDES
from nemo_distill.storage.files import user_path, versions
from nemo_distill.storage.ledger import Work, differences, fingerprint
from nemo_distill.storage.made_with import git_revision
from nemo_distill.storage.run_record import FAILED, FINISHED, INTERRUPTED, RUN_NAME, RUNNING, RunRecord, read_run
from nemo_distill.storage.shard_folder import MANIFEST
from nemo_distill.text.files import FILE_KEYS, as_list
from nemo_distill.text.training_mix import mixed_files

PACKAGES = ("nemo_distill", "nemo_toolkit", "torch", "lightning", "sentencepiece", "sacrebleu")
FINISHED_BEFORE, REFUSED = "finished before", "refused"


def job_command(name: str) -> tuple[str, ...]:
    """Returns the Python arguments for a job of `nemo-distill`, without the job's own arguments.

    `-P` excludes the working folder from imports, because it may contain any files.
    """
    return ("-P", "-m", "nemo_distill", name)


def run_in_sweep(cfg: DictConfig, command: Sequence[str]) -> dict[str, str] | None:
    """Runs one training of a sweep, unless it is finished, and returns its outcome. Returns None outside a sweep.

    Args:
        cfg: the config of the training.
        command: the Python arguments that start such a training alone.

    Returns:
        The values for `SweepFolders`: `training` (folder name), `outcome`, `best` (best score) and `reason` (why it
        did not finish).
    """
    if HydraConfig.get().mode is not RunMode.MULTIRUN:
        return None
    set_up_console()
    folder = Path(HydraConfig.get().runtime.output_dir)
    added = _add_folder(cfg, folder)
    try:
        work = Work(folder / RUN_NAME, job_settings(cfg), shape=RunRecord, read_inputs=lambda: job_inputs(cfg))
        if _is_finished(work):
            return _outcome(folder, FINISHED_BEFORE)
    except DataError as error:
        return _outcome(folder, REFUSED, f"was refused: {error}")
    console.info(f"\n{_training(folder)}")
    try:
        code = _exit_code([*command, *_command_line(added)])
    except Exception as error:  # from a launcher that ends its job, such as submitit at its time limit
        return _outcome(folder, INTERRUPTED, f"was interrupted: {error}".rstrip("."))
    if code:
        record = read_run(folder)
        if record is None or record.get("status") == RUNNING:  # it was refused, or killed
            work.finish(new_record(cfg, FAILED))
        return _outcome(folder, FAILED, f"did not finish (exit code {code})")
    return _outcome(folder, FINISHED)


def _outcome(folder: Path, outcome: str, reason: str = "") -> dict[str, str]:
    best = (read_run(folder) or {}).get("best") if outcome in (FINISHED, FINISHED_BEFORE) else None
    shown = f"{best['monitor']} {best['value']:.4g}" if best else ""
    return {"training": _training(folder), "outcome": outcome, "best": shown, "reason": reason}


def _training(folder: Path) -> str:
    """Returns the training's folder relative to the sweep."""
    return str(folder.relative_to(Path(HydraConfig.get().sweep.dir).absolute()))


def _add_folder(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Sets the training's folder and resuming in the config. Returns what was added."""
    wanted = {"explicit_log_dir": str(folder), "resume_if_exists": True, "resume_ignore_no_checkpoint": True}
    with open_dict(cfg):
        added = {key: value for key, value in wanted.items() if cfg.exp_manager.get(key) is None}
        cfg.exp_manager.update(added)
    return added


def _is_finished(work: Work) -> bool:
    folder, changes = work.finished_path.parent, work.changes()
    if changes and (folder / "checkpoints").exists():
        raise DataError(
            f"'{folder}' holds a training with other settings: {'; '.join(changes)}; delete it, or give another "
            "hydra.sweep.dir"
        )
    return not changes and (work.finished() or {}).get("status") == FINISHED


def _command_line(added: dict[str, Any]) -> Iterator[str]:
    """Yields the arguments that start this job of a sweep alone."""
    hydra = HydraConfig.get()
    for source in hydra.runtime.config_sources:
        if source.provider in ("main", "command-line") and source.schema == "file":
            option = "--config-path" if source.provider == "main" else "--config-dir"
            yield f"{option}={source.path}"
    yield f"--config-name={hydra.job.config_name}"
    yield from (override for override in hydra.overrides.hydra if override.startswith("hydra.searchpath"))
    yield from hydra.overrides.task
    for key, value in added.items():
        yield f"++exp_manager.{key}={json.dumps(value, ensure_ascii=False)}"


def _exit_code(arguments: Sequence[str]) -> int:
    """Runs Python with these arguments. If this process is ended, it ends the other one first."""
    process = subprocess.Popen([sys.executable, *arguments])
    with sigterm_as_exception():
        try:
            return process.wait()
        except (KeyboardInterrupt, Interrupted):  # the other process receives the signal too
            process.wait()
            raise
        except BaseException:
            process.terminate()
            process.wait()
            raise


def job_settings(cfg: DictConfig) -> dict[str, Any]:
    """Returns the resolved `config` and the SHA-256 of the `teachers`, as JSON values."""
    config = OmegaConf.to_container(cfg, resolve=True)
    return {"config": config, "teachers": _teachers(config.get("model", {}).get("distillation") or {})}


def job_inputs(cfg: DictConfig) -> dict[str, str]:
    """Returns the SHA-256 of each file of data, tokenizers and a teacher cache's list, and of the first weights."""
    config = OmegaConf.to_container(cfg, resolve=True)
    return {str(path): fingerprint(path)["sha256"] for path in _named_files(config) if path.is_file()}


def _named_files(config: Mapping[str, Any]) -> Iterator[Path]:
    model = config.get("model", {})
    named = [config.get("init_from_nemo_model")]
    for section in (model.get("train_ds") or {}, model.get("validation_ds") or {}):
        named += [name for key in (*FILE_KEYS, "metadata_file") for name in as_list(section.get(key))]
    named += [(model.get(f"{side}_tokenizer") or {}).get("tokenizer_model") for side in SIDES]
    if cache := (model.get("distillation") or {}).get("teacher_cache"):
        named.append(user_path(cache) / MANIFEST)
    yield from (user_path(name) for name in named if name)
    try:
        yield from mixed_files(model)
    except ConfigurationError:  # a sweep asks before the job's own check, which tells what is wrong
        return


def _teachers(distillation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if cache := distillation.get("teacher_cache"):
        from nemo_distill.teacher_cache.cache import read_manifest  # imports torch, so only if needed

        return [read_manifest(cache)["settings"]["teacher"]]
    paths = map(user_path, as_list(distillation.get("model_path")))
    return [fingerprint(path) for path in paths if path.exists()]


# What may change while a training goes on: its length, where it runs, and what is logged, validated and tested.
DECISIVE_OF_TRAINER = (
    "precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches",
    "overfit_batches",
)  # fmt: skip
FREE_SECTIONS = ("exp_manager", "do_training", "do_testing", "name")


def changes_since(earlier: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Returns how a training that goes on differs from the one that began, in what decides on its weights.

    Args:
        earlier: its record in `run.json`; one without settings tells nothing.
        record: from `new_record`.
    """
    if not earlier.get("settings"):
        return []
    changed = differences(_decisive(earlier["settings"]), _decisive(record["settings"]))
    inputs = earlier.get("inputs") or {}
    return changed + [
        f"'{name}' has changed since"
        for name, sha256 in record["inputs"].items()
        if inputs.get(name, sha256) != sha256
    ]


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in settings["config"].items() if key not in FREE_SECTIONS}
    trainer = config.get("trainer") or {}
    model = {key: value for key, value in (config.get("model") or {}).items() if key != "test_ds"}
    return {
        **config,
        "trainer": {key: trainer.get(key) for key in DECISIVE_OF_TRAINER},
        "model": _without_workers(model),
        "teachers": settings.get("teachers"),
    }


def _without_workers(section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {key: _without_workers(value) for key, value in section.items() if key not in ("num_workers", "pin_memory")}


def new_record(cfg: DictConfig, status: str) -> dict[str, Any]:
    """Returns the record of a training before its start: settings, inputs, command and environment."""
    settings = job_settings(cfg)
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {
        "status": status,
        "seed": settings["config"].get("seed", 0),
        "overrides": list(overrides),
        "made_with": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": None,
            "versions": {"python": platform.python_version(), **versions(PACKAGES)},
            "git_revision": git_revision(),
        },
        "settings": settings,
        "inputs": job_inputs(cfg),
    }
