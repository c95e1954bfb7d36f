"""The types of `evaluation.json`, as far as they are read."""

from pathlib import Path
from typing import Final, Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.storage.made_with import MadeWith
from nemo_distill.storage.records import OPEN, read_json

BASELINE: Final = "baseline"
DISTILLED: Final = "distilled"
Role = Literal["baseline", "distilled"]  # of a system; a distilled one is compared with the baselines of its size


@with_config(OPEN)
class SystemRecord(TypedDict):
    """Size and speed of a system."""

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
    """The scores on a test set, by system and metric."""

    lines: int
    scores: dict[str, dict[str, ScoreRecord]]
    comparisons: NotRequired[list[ComparisonRecord]]


@with_config(OPEN)
class EvaluationRecord(TypedDict):
    """The content of `evaluation.json`."""

    systems: dict[str, SystemRecord]
    test_sets: dict[str, SetRecord]
    made_with: NotRequired[MadeWith]


def read_evaluation(path: Path) -> EvaluationRecord | None:
    """Returns the record in a file, or None if the file does not exist.

    Raises:
        DataError: if it is not the record of an evaluation.
    """
    return read_json(path, EvaluationRecord)
