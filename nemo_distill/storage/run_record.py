"""The record of a training in its folder, `run.json`: how it was made and how it ended.

It is written at the start of the training and completed at the end. It distinguishes finished trainings from failed
and interrupted ones, so that a sweep runs only the missing ones. The status `running` means that the training is
running or was killed.
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
    """The best validation score of a training and the name of the score."""

    monitor: str
    value: float


@with_config(OPEN)
class RunRecord(TypedDict, total=False):
    """The content of `run.json`."""

    status: str
    seed: int | None
    overrides: list[str]
    made_with: MadeWith
    settings: dict[str, Any]
    seconds: float
    steps: int
    target_tokens: int | None
    tokens_in_batch: int | None
    best: FoundBest | None
    parameters: int | None
    teacher_parameters: int | None
    models: list[FileEntry]


def read_run(folder: Path) -> RunRecord | None:
    """Returns the record of a training folder, or None if there is none.

    Raises:
        DataError: if `run.json` is not a valid record.
    """
    return read_json(folder / RUN_NAME, RunRecord)


@contextmanager
def recorded_run(
    folder: Path, record: dict[str, Any], outcome: Callable[[], Mapping[str, Any]], seconds: float = 0.0
) -> Iterator[None]:
    """Writes `record` at the start of a run, and completes it when the run ends.

    Args:
        folder: the folder of the run.
        record: the record from `new_record`.
        outcome: returns the results of the run. Called at the end.
        seconds: wall time of earlier attempts, to be added.
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
