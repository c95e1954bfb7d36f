"""What `evaluation.json` holds, as far as anything reads it."""

from pathlib import Path
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from nemo_distill.storage.made_with import MadeWith
from nemo_distill.storage.records import OPEN, read_json

BASELINE, DISTILLED = "baseline", "distilled"
Role = Literal["baseline", "distilled"]  # of a system; a distilled one is compared with the baselines of its size


class SystemRecord(TypedDict):
    """A system's size and speed."""

    __pydantic_config__ = OPEN
    engine: str
    sha256: str
    group: NotRequired[str]
    role: NotRequired[Role | None]
    bytes: NotRequired[int]
    parameters: NotRequired[int | None]
    parameters_without_embeddings: NotRequired[int | None]
    compression: NotRequired[float | None]
    training_seconds: NotRequired[float | None]
    label_smoothing: NotRequired[float | None]
    speed: NotRequired[dict[str, float | None] | None]


class ScoreRecord(TypedDict):
    """A corpus score."""

    __pydantic_config__ = OPEN
    value: float
    signature: NotRequired[str | None]


class ComparisonRecord(TypedDict):
    """A comparison of two systems."""

    __pydantic_config__ = OPEN
    system: str
    baseline: str
    metric: str
    difference: float
    p_value: float
    test: str


class SetRecord(TypedDict):
    """A test set's scores, by system and metric."""

    __pydantic_config__ = OPEN
    lines: int
    scores: dict[str, dict[str, ScoreRecord]]
    comparisons: NotRequired[list[ComparisonRecord]]


class EvaluationRecord(TypedDict):
    """The whole."""

    __pydantic_config__ = OPEN
    systems: dict[str, SystemRecord]
    test_sets: dict[str, SetRecord]
    made_with: NotRequired[MadeWith]


def read_evaluation(path: Path) -> dict[str, Any] | None:
    """Returns the record in a file; None if there is no such file.

    Raises:
        DataError: if it is of no evaluation.
    """
    return read_json(path, EvaluationRecord)
