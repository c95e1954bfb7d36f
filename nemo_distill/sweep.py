"""Sweeps: Hydra's `-m` over trainings, each in a folder that its swept values name, and only those that are missing.

A training runs in a process of its own under the command that would start it alone. So it has its memory, its loggers
and its devices to itself under every launcher, and one that is killed ends no other.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from nemo_distill.core.console import console, set_up_console
from nemo_distill.data.output_files import differences, read_json, write_json
from nemo_distill.data.text_lines import DataError
from nemo_distill.run_record import FAILED, FINISHED, RUN_NAME, RUNNING, job_settings, new_record

OWN_FOLDER = (
    "exp_manager.explicit_log_dir={}: the trainings of a sweep would share it; leave it out, and say with "
    "hydra.sweep.dir where the sweep's folders go."
)


class SweepError(RuntimeError):
    """A training of a sweep that did not finish."""


class SweepFolders(Callback):
    """Names the folders of a sweep's jobs after what is swept, such as `student=slim_1x1,temperature=2`.

    Hydra's `override_dirname`, which conf/console.yaml takes for it, would hold the overrides that all jobs share too.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if folder := (config.get("exp_manager") or {}).get("explicit_log_dir"):
            print(OWN_FOLDER.format(folder), file=sys.stderr)
            sys.exit(2)
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        shared = [override.key_or_group for override in overrides if not override.is_sweep_override()]
        with open_dict(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys={json.dumps(shared)}")


def run_in_sweep(cfg: DictConfig, script: str) -> bool:
    """In a sweep, does one of its trainings, unless it is done, and returns True; elsewhere returns False.

    Args:
        cfg: the training's config.
        script: the file that trains.

    Raises:
        DataError: if the training's folder holds a training with other settings.
        SweepError: if the training fails.
    """
    if HydraConfig.get().mode is not RunMode.MULTIRUN:
        return False
    set_up_console()
    folder = Path(HydraConfig.get().runtime.output_dir)
    added = _add_folder(cfg, folder)
    settings = json.loads(json.dumps(job_settings(cfg)))
    if _is_finished(folder, settings):
        console.info(f"{folder.name}: finished before")
        return True
    console.info(f"\n{folder.name}")
    if code := _exit_code([sys.executable, script, *_command_line(added)]):
        record = read_json(folder / RUN_NAME)
        if record is None or record["status"] == RUNNING:  # it was refused, or killed
            write_json(folder / RUN_NAME, new_record(settings, FAILED))
        raise SweepError(f"{folder} did not finish (exit code {code}); the same command does again what is missing.")
    return True


def _add_folder(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Lets the training work in `folder` and resume there; returns what that adds to the config."""
    wanted = {"explicit_log_dir": str(folder), "resume_if_exists": True, "resume_ignore_no_checkpoint": True}
    with open_dict(cfg):
        added = {key: value for key, value in wanted.items() if cfg.exp_manager.get(key) is None}
        cfg.exp_manager.update(added)
    return added


def _is_finished(folder: Path, settings: dict[str, Any]) -> bool:
    record = read_json(folder / RUN_NAME)
    changes = differences(record["settings"], settings) if record else []
    if changes and (folder / "checkpoints").exists():
        raise DataError(
            f"'{folder}' holds a training with other settings: {'; '.join(changes)}; delete it, or give another "
            "hydra.sweep.dir"
        )
    return bool(record) and not changes and record["status"] == FINISHED


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


def _exit_code(command: list[str]) -> int:
    """Runs a command; whatever ends this process ends the command first."""
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return process.wait()
    except SystemExit:
        process.terminate()
        process.wait()
        raise
    except KeyboardInterrupt:  # which the training has got as well
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
