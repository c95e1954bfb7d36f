"""Sweeps: Hydra's `-m` over trainings, each in a folder that its swept values name, and only those that are missing.

A training runs in a process of its own under the command that would start it alone. So it has its memory, its loggers
and its devices to itself under every launcher, and one that is killed ends no other.
"""

import atexit
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from nemo_distill.config.errors import DataError
from nemo_distill.console import Interrupted, console, set_up_console, sigterm_as_exception
from nemo_distill.evaluation.tables import print_table
from nemo_distill.experiments.run_settings import job_settings, new_record
from nemo_distill.storage.files import numeric_order, write_json
from nemo_distill.storage.ledger import differences
from nemo_distill.storage.records import read_json
from nemo_distill.storage.run_record import FAILED, FINISHED, INTERRUPTED, RUN_NAME, RUNNING, read_run

OWN_FOLDER = (
    "exp_manager.explicit_log_dir={}: the trainings of a sweep would share it; leave it out, and say with "
    "hydra.sweep.dir where the sweep's folders go."
)
FINISHED_BEFORE, REFUSED = "finished before", "refused"


class SweepFolders(Callback):
    """Names the folders of a sweep's jobs after what is swept, and says at the end what became of each.

    Names are such as `student=slim_1x1,temperature=2`; Hydra's `override_dirname`, which conf/console.yaml takes for
    them, would hold the overrides that all jobs share too. Hydra gives what the jobs return to no callback, and they
    may run on other machines: each leaves its outcome in a folder that this sweep has to itself.
    """

    def __init__(self) -> None:
        self.outcomes: Path | None = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if folder := (config.get("exp_manager") or {}).get("explicit_log_dir"):
            print(OWN_FOLDER.format(folder), file=sys.stderr)
            sys.exit(2)
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        shared = [override.key_or_group for override in overrides if not override.is_sweep_override()]
        with open_dict(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys={json.dumps(shared)}")
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self.outcomes = Path(tempfile.mkdtemp(prefix=".outcomes_", dir=folder))
        atexit.register(shutil.rmtree, self.outcomes, ignore_errors=True)
        signal.signal(signal.SIGINT, _interrupt)  # else launchers would show where they were waiting

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if self.outcomes and job_return.status is JobStatus.COMPLETED and job_return.return_value:
            write_json(self.outcomes / f"{config.hydra.job.num}.json", job_return.return_value)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        found = [read_json(path) for path in sorted(self.outcomes.glob("*.json"), key=numeric_order)]
        if not found:  # of a script that does no trainings
            return
        print_table(("training", "outcome", "best"), [[one["training"], one["outcome"], one["best"]] for one in found])
        counts = Counter(one["outcome"] for one in found)
        print(f"{len(found)} trainings: {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}.")
        reasons = [f"{one['training']} {one['reason']}." for one in found if one["reason"]]
        if reasons:
            print(*reasons, "The same command does again what is missing.", sep="\n", file=sys.stderr)
            sys.exit(1)


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted("\nInterrupted; the same command goes on from there.")


def run_in_sweep(cfg: DictConfig, script: str) -> dict[str, str] | None:
    """In a sweep, does one of its trainings, unless it is done, and returns what became of it; elsewhere returns None.

    Args:
        cfg: the training's config.
        script: the file that trains.

    Returns:
        What `SweepFolders` takes from the script's `main`: `training`, its folder's name; `outcome`; `best`, its best
        score; `reason`, why it did not finish.
    """
    if HydraConfig.get().mode is not RunMode.MULTIRUN:
        return None
    set_up_console()
    folder = Path(HydraConfig.get().runtime.output_dir)
    added = _add_folder(cfg, folder)
    try:
        settings = json.loads(json.dumps(job_settings(cfg)))
        if _is_finished(folder, settings):
            return _outcome(folder, FINISHED_BEFORE)
    except DataError as error:
        return _outcome(folder, REFUSED, f"was refused: {error}")
    console.info(f"\n{_training(folder)}")
    try:
        code = _exit_code([sys.executable, script, *_command_line(added)])
    except Exception as error:  # of a launcher that ends its job, such as submitit's when its time is up
        return _outcome(folder, INTERRUPTED, f"was interrupted: {error}".rstrip("."))
    if code:
        record = read_run(folder)
        if record is None or record.get("status") == RUNNING:  # it was refused, or killed
            write_json(folder / RUN_NAME, new_record(settings, FAILED))
        return _outcome(folder, FAILED, f"did not finish (exit code {code})")
    return _outcome(folder, FINISHED)


def _outcome(folder: Path, outcome: str, reason: str = "") -> dict[str, str]:
    best = (read_run(folder) or {}).get("best") if outcome in (FINISHED, FINISHED_BEFORE) else None
    shown = f"{best['monitor']} {best['value']:.4g}" if best else ""
    return {"training": _training(folder), "outcome": outcome, "best": shown, "reason": reason}


def _training(folder: Path) -> str:
    """The values that name a training's folder, which is more than one deep where they hold slashes."""
    return str(folder.relative_to(Path(HydraConfig.get().sweep.dir).absolute()))


def _add_folder(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Lets the training work in `folder` and resume there; returns what that adds to the config."""
    wanted = {"explicit_log_dir": str(folder), "resume_if_exists": True, "resume_ignore_no_checkpoint": True}
    with open_dict(cfg):
        added = {key: value for key, value in wanted.items() if cfg.exp_manager.get(key) is None}
        cfg.exp_manager.update(added)
    return added


def _is_finished(folder: Path, settings: dict[str, Any]) -> bool:
    record = read_run(folder)
    changes = differences(record.get("settings", {}), settings) if record else []
    if changes and (folder / "checkpoints").exists():
        raise DataError(
            f"'{folder}' holds a training with other settings: {'; '.join(changes)}; delete it, or give another "
            "hydra.sweep.dir"
        )
    return bool(record) and not changes and record.get("status") == FINISHED


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
    with sigterm_as_exception():
        try:
            return process.wait()
        except (KeyboardInterrupt, Interrupted):  # which the training has got as well
            process.wait()
            raise
        except BaseException:
            process.terminate()
            process.wait()
            raise
