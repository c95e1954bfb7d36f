"""Sweeps: runs Hydra's `-m` over trainings, each in a folder named after the swept values. Finished ones are skipped.

Each training runs in its own process, with the command that would start it alone. With every launcher, it has its own
memory, loggers and devices, and a killed training does not stop the others. The `run.json` of a training holds its
settings and inputs, so that only one that is still the same is skipped.
"""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.config.overrides import config_with_home
from nemo_distill.config.wording import shown
from nemo_distill.console import Interrupted, console, set_up_console, sigterm_as_exception
from nemo_distill.experiments.training_record import job_inputs, job_settings, new_record
from nemo_distill.storage.ledger import Work
from nemo_distill.storage.run_record import FAILED, FINISHED, INTERRUPTED, RUN_NAME, RUNNING, RunRecord, read_run

FINISHED_BEFORE, REFUSED = "finished before", "refused"
SHOWN = 3  # trainings that are named with a problem


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
    if not isinstance(manager := cfg.get("exp_manager"), DictConfig):
        said = f"exp_manager={shown(manager)}: must be a section of keys, in which a sweep names the training's folder"
        return _outcome(folder, REFUSED, f"was refused: {said}")
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
            spent = {"seconds": record["seconds"]} if record and "seconds" in record else {}
            work.finish({**new_record(cfg, FAILED), **spent})
        return _outcome(folder, FAILED, f"did not finish (exit code {code})")
    return _outcome(folder, FINISHED)


def check_sweep(config: DictConfig, check: Callable[[DictConfig], object]) -> None:
    """Ends the program with exit code 2, and with the problems of all trainings of a sweep, if any cannot be used.

    A training whose config refers to values that Hydra sets only when it starts is left to its own check.

    Args:
        config: of the sweep.
        check: raises `ConfigurationError` if the config of a training cannot be used.
    """
    found, trainings = dict[str, list[tuple[str, ...]]](), list(_trainings(config))
    for overrides, swept in trainings:
        cfg = config_with_home(compose(config.hydra.job.config_name, overrides))
        if isinstance(cfg.get("exp_manager"), DictConfig):
            _add_folder(cfg, Path(config.hydra.sweep.dir).absolute() / "training")
        try:
            check(cfg)
        except ConfigurationError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(swept)
        except InterpolationResolutionError:
            continue
    if found:
        every = [swept for _, swept in trainings]
        print(
            ConfigurationError([problem + _where(those, every) for problem, those in found.items()]), file=sys.stderr
        )
        sys.exit(2)


def _trainings(config: DictConfig) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """Yields the overrides of each training of a sweep, and those of them that are swept.

    Only Hydra's basic sweeper trains all combinations; with another one, none is known beforehand.
    """
    hydra: Any = OmegaConf.to_container(config.hydra, resolve=False)  # overrides may refer to what is not set yet
    if not hydra["sweeper"]["_target_"].endswith(".BasicSweeper"):
        return
    given = [f"{key}={value}" for key, value in (hydra["sweeper"].get("params") or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # which knows the files of glob(*)
    read = parser.parse_overrides([*given, *hydra["overrides"]["task"]])
    always = [one for one in hydra["overrides"]["hydra"] if one.startswith("hydra.searchpath")]
    choices = [
        [f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()]
        if one.is_sweep_override()
        else [one.input_line]
        for one in read
    ]
    for chosen in itertools.product(*choices):
        yield [*always, *chosen], tuple(text for text, one in zip(chosen, read) if one.is_sweep_override())


def _where(those: Sequence[tuple[str, ...]], trainings: Sequence[tuple[str, ...]]) -> str:
    """Returns a sentence with the swept values of those trainings that have a problem; none if all have it."""
    if len(those) == len(trainings):
        return ""
    shared = [value for value in those[0] if all(value in training for training in those)]
    if len(those) == sum(set(shared) <= set(training) for training in trainings):
        return f" So with {','.join(shared)}."
    names, more = [",".join(training) for training in those[:SHOWN]], len(those) - SHOWN
    return f" So with {'; '.join(names)}{f' and {more} more' if more > 0 else ''}."


def _outcome(folder: Path, outcome: str, reason: str = "") -> dict[str, str]:
    best = (read_run(folder) or {}).get("best") if outcome in (FINISHED, FINISHED_BEFORE) else None
    score = f"{best['monitor']} {best['value']:.4g}" if best else ""
    return {"training": _training(folder), "outcome": outcome, "best": score, "reason": reason}


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
