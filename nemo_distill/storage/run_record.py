"""How a training's folder says how it was made and how it ended: `run.json`.

It is written when the training starts and completed when it ends: so finished trainings are told from failed and
interrupted ones, and a sweep does only what is missing. One that still says `running` runs, or was killed.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.console import Interrupted
from nemo_distill.storage.files import write_json
from nemo_distill.storage.made_with import MadeWith
from nemo_distill.storage.records import OPEN, FileEntry, read_json

RUN_NAME = "run.json"
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


@with_config(OPEN)
class FoundBest(TypedDict):
    """The best score of a training, and its name."""

    monitor: str
    value: float


@with_config(OPEN)
class RunRecord(TypedDict, total=False):
    """What `run.json` holds."""

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
