"""How a training's folder says how it was made and how it ended: `run.json`.

It is written when the training starts and completed when it ends: so finished trainings are told from failed and
interrupted ones, and a sweep does only what is missing. One that still says `running` runs, or was killed.
"""

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from typing_extensions import TypedDict

from nemo_distill.core.teacher_ensemble import teacher_paths
from nemo_distill.data.output_files import fingerprint, versions, write_json
from nemo_distill.data.records import OPEN, FileEntry, read_json
from nemo_distill.evaluation.evaluation_record import MadeWith
from nemo_distill.evaluation.made_with import git_revision
from nemo_distill.teacher_cache.cache import read_manifest

RUN_NAME = "run.json"
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
PACKAGES = ("nemo_distill", "nemo_toolkit", "torch", "lightning", "sentencepiece", "sacrebleu")


class FoundBest(TypedDict):
    """The best score of a training, and its name."""

    __pydantic_config__ = OPEN
    monitor: str
    value: float


class RunRecord(TypedDict, total=False):
    """What `run.json` holds."""

    __pydantic_config__ = OPEN
    status: str
    seed: int | None
    overrides: list[str]
    made_with: MadeWith
    settings: dict[str, Any]
    seconds: float
    steps: int
    best: FoundBest | None
    parameters: int | None
    teacher_parameters: int | None
    models: list[FileEntry]


def read_run(folder: Path) -> RunRecord | None:
    """Returns the record of a training's folder; None if there is none.

    Raises:
        DataError: if `run.json` is no such record.
    """
    return read_json(folder / RUN_NAME, RunRecord)


class Interrupted(SystemExit):
    """The end of a job that Ctrl-C or SIGTERM has ended; its argument is what is printed."""


def job_settings(cfg: DictConfig) -> dict[str, Any]:
    """Returns what a training depends on, as JSON has it: the resolved `config`, and its `teachers`' SHA-256."""
    config = OmegaConf.to_container(cfg, resolve=True)
    return {"config": config, "teachers": _teachers(config.get("model", {}).get("distillation") or {})}


def _teachers(distillation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if cache := distillation.get("teacher_cache"):
        return [read_manifest(cache)["settings"]["teacher"]]
    paths = [Path(path).expanduser() for path in teacher_paths(distillation.get("model_path") or [])]
    return [fingerprint(path) for path in paths if path.is_file()]


def new_record(settings: Mapping[str, Any], status: str) -> dict[str, Any]:
    """Returns a record with what is known before a training: its settings, its command and its surroundings."""
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
    }


@contextmanager
def recorded_run(
    folder: Path, record: dict[str, Any], outcome: Callable[[], Mapping[str, Any]], seconds: float = 0.0
) -> Iterator[None]:
    """Keeps `record` in a run's folder while the run lasts, and completes it with how the run ended.

    Args:
        folder: the run's.
        record: as `new_record` returns it.
        outcome: asked at the end for what the run has reached.
        seconds: wall time of earlier attempts, which `seconds` counts in.
    """
    started, status = time.monotonic(), FAILED
    write_json(folder / RUN_NAME, record)
    try:
        yield
        status = FINISHED
    except (Interrupted, KeyboardInterrupt):
        status = INTERRUPTED
        raise
    finally:
        spent = round(seconds + time.monotonic() - started, 3)
        write_json(folder / RUN_NAME, {**record, "status": status, "seconds": spent, **outcome()})
