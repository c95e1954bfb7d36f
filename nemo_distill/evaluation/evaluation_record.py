"""What `evaluation.json` holds, as far as anything reads it."""

from pathlib import Path
from typing import NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.storage.made_with import MadeWith
from nemo_distill.storage.records import OPEN, read_json


@with_config(OPEN)
class SystemRecord(TypedDict):
    """A system's size and speed."""

    engine: str
    sha256: str
    group: NotRequired[str]
    bytes: NotRequired[int]
    parameters: NotRequired[int | None]
    parameters_without_embeddings: NotRequired[int | None]
    compression: NotRequired[float | None]
    speed: NotRequired[dict[str, float | None] | None]


@with_config(OPEN)
class ScoreRecord(TypedDict):
    """A corpus score."""

    value: float
    signature: NotRequired[str | None]


@with_config(OPEN)
class ComparisonRecord(TypedDict):
    """A comparison of two systems."""

    system: str
    baseline: str
    metric: str
    difference: float
    p_value: float
    test: str


@with_config(OPEN)
class SetRecord(TypedDict):
    """A test set's scores, by system and metric."""

    lines: int
    scores: dict[str, dict[str, ScoreRecord]]
    comparisons: NotRequired[list[ComparisonRecord]]


@with_config(OPEN)
class EvaluationRecord(TypedDict):
    """The whole."""

    systems: dict[str, SystemRecord]
    test_sets: dict[str, SetRecord]
    made_with: NotRequired[MadeWith]


def read_evaluation(path: Path) -> EvaluationRecord | None:
    """Returns the record in a file; None if there is no such file.

    Raises:
        DataError: if it is of no evaluation.
    """
    return read_json(path, EvaluationRecord)
