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

from nemo_distill.config.errors import DataError
from nemo_distill.console import Interrupted
from nemo_distill.storage.files import write_json
from nemo_distill.storage.ledger import fingerprint
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
    """The content of `run.json`.

    `steps`, `epochs` and `target_tokens` include those of the training that made the weights to start from, if its
    record is known, and otherwise they are None. `epochs` are None too if the data has no length. `target_tokens` are
    those of the text that the model was trained on, without padding. `tokens_in_batch` is the limit on the tokens of
    an optimizer step: source, target and padding.
    """

    status: str
    seed: int | None
    overrides: list[str]
    made_with: MadeWith
    settings: dict[str, Any]
    inputs: dict[str, str]
    seconds: float
    steps: int | None
    epochs: float | None
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


def read_run_of(model: Path) -> RunRecord | None:
    """Returns the record of the training that wrote a `.nemo`, in its folder or the one above; None without one."""
    if not model.is_file():
        return None
    sha256 = fingerprint(model)["sha256"]
    for folder in model.absolute().parents[:2]:
        try:
            record = read_run(folder) or {}
        except DataError:  # the run.json of something else
            continue
        if sha256 in [entry["sha256"] for entry in record.get("models", ())]:
            return record
    return None


@contextmanager
def recorded_run(
    folder: Path, record: dict[str, Any], outcome: Callable[[], Mapping[str, Any]], seconds: float = 0.0
) -> Iterator[None]:
    """Writes `record` at the start of a run, and completes it when the run ends.

    Args:
        record: the record from `new_record`.
        outcome: returns the results of the run. Called at the end.
        seconds: wall time of earlier attempts, to be added. It is written at the start too: if this attempt is killed,
            only its own time is lost.
    """
    started, status = time.monotonic(), FAILED
    write_json(folder / RUN_NAME, {**record, **({"seconds": seconds} if seconds else {})})
    try:
        yield
        status = FINISHED
    except (Interrupted, KeyboardInterrupt):
        status = INTERRUPTED
        raise
    finally:
        spent = round(seconds + time.monotonic() - started, 3)
        write_json(folder / RUN_NAME, {**record, "status": status, "seconds": spent, **outcome()})
