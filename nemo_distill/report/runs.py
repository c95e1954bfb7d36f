"""Reads the trainings under a folder: `run.json` and TensorBoard event files."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nemo_distill.storage.files import numeric_order
from nemo_distill.storage.run_record import RUN_NAME, read_run

EVENTS = "events.out.tfevents*"
ATTEMPT = re.compile(r"run_\d+")  # NeMo moves the logs of earlier attempts to these folders
LOWER_IS_BETTER = re.compile(r"loss|nll|perplexity|ppl|(?<![a-z])ter(?![a-z])", re.IGNORECASE)
Curve = Sequence[tuple[int, float]]  # steps and values


@dataclass(frozen=True)
class Run:
    """A training.

    Args:
        name: path of its folder, relative to the searched folder.
        record: its `run.json`; empty if there is none.
        curves: for each logged scalar, the steps in order and the values.
    """

    name: str
    record: Mapping[str, Any]
    curves: Mapping[str, Curve]

    @property
    def overrides(self) -> dict[str, str]:
        """The overrides in its command, by key, except those of exp_manager."""
        pairs = (override.lstrip("+~").partition("=") for override in self.record.get("overrides", ()))
        return {key: value for key, _, value in pairs if not key.startswith("exp_manager")}

    def best(self, tag: str) -> float | None:
        """Returns the best logged value of a scalar: the lowest for losses and error rates, otherwise the highest."""
        better = min if LOWER_IS_BETTER.search(tag) else max
        values = (value for _, value in self.curves.get(tag, ()))
        return better((value for value in values if math.isfinite(value)), default=None)


def find_runs(folder: Path, tags: Collection[str]) -> list[Run]:
    """Returns all trainings in a folder and its subfolders, sorted by name.

    Args:
        folder: the folder to search.
        tags: names of the scalars to read.

    Raises:
        DataError: if a `run.json` cannot be read.
    """
    found = {path.parent for pattern in (RUN_NAME, EVENTS) for path in folder.rglob(pattern)}
    runs = [path for path in found if not (ATTEMPT.fullmatch(path.name) and path.parent in found)]
    return [
        Run(
            folder.resolve().name if path == folder else path.relative_to(folder).as_posix(),
            read_run(path) or {},
            read_curves(path, tags),
        )
        for path in sorted(runs, key=numeric_order)
    ]


def read_curves(folder: Path, tags: Collection[str]) -> dict[str, Curve]:
    """Returns the scalars in a folder's event files. If a step was repeated, the last value counts."""
    if not any(folder.glob(EVENTS)):
        return {}
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()  # 0: all of them
    return {
        tag: sorted({event.step: event.value for event in events.Scalars(tag)}.items())
        for tag in tags
        if tag in events.Tags()["scalars"]
    }
