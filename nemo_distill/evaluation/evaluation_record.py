"""The types of `evaluation.json` and `failures.json`, as far as they are read."""

from typing import Any, Final, Literal, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.failures.settings import KindName
from nemo_distill.metrics.significance import Comparison
from nemo_distill.storage.records import OPEN, FileEntry

EVALUATION_NAME = "evaluation.json"
FAILURES_NAME = "failures.json"
BASELINE: Final = "baseline"
DISTILLED: Final = "distilled"
Role = Literal["baseline", "distilled"]  # of a system; a distilled one is compared with the baselines of its size
TEXT_ONLY = "text"  # the engine of systems of which only translations are there


class TrainingRecord(TypedDict):
    """What a model's training took. None: not known.

    `seconds` is wall time, and `preparation_seconds` that of the labels and caches that the training needed. `device`
    has number and name of the devices.
    """

    steps: int | None
    target_tokens: int | None
    tokens_in_batch: int | None
    seconds: float | None
    preparation_seconds: float | None
    device: str | None
    git_revision: str | None


class SystemRecord(TypedDict):
    """Size, speed and training of a system. `same_model_as` names another system that runs the same model.

    `selected_by` lists the metrics that selected the labels that the model was trained on.
    """

    engine: str
    sha256: str | None
    precision: str | None
    beam_size: int | None
    same_model_as: str | None
    group: str
    seed: int | None
    role: Role | None
    bytes: int | None
    parameters: int | None
    parameters_without_embeddings: int | None
    compression: float | None
    training: TrainingRecord | None
    label_smoothing: float | None
    selected_by: list[str]
    speed: dict[str, float] | None


class ScoreRecord(TypedDict):
    """A corpus score."""

    value: float
    signature: str


class Interval(TypedDict):
    """A mean over seeds, and where it lies: with 95 % confidence, or the values of both of two seeds.

    `over` says what the interval accounts for: the choice of `seeds`, or with a single one of `sentences`. It is
    `both seeds` if the ends are the values of two seeds.
    """

    value: float
    low: float
    high: float
    seeds: int
    over: Literal["seeds", "both seeds", "sentences"]


class GapRecord(TypedDict):
    """The share of the distance from a baseline's group to the teacher's that a distilled group closes.

    `closed` is 0 at the baseline and 1 at the teacher; None where it is not given, for the `reason`.
    """

    metric: str
    teacher: str | None
    baseline: str | None
    closed: Interval | None
    reason: str | None


Reason = Literal["only", "first", "best", "teacher"]


class VerdictRecord(TypedDict):
    """Which system to ship.

    `because` tells the choice: the only system, the fastest or smallest (`measure`) of those that are as good as the
    best one, the best of those that are about as fast or small as that, or the teacher, if it is better than that and
    costs no more. Quality is measured by `metric`, as a mean over the test sets.

    `differences` has what the system has more than others: the teacher in the same engine and precision, and the first
    system. What a teacher has more than the system that would be chosen without it. Without a teacher, what it has
    more than the best other system, of those that run as it does if there are any.
    """

    ship: str
    because: Reason
    measure: Literal["speed", "size"]
    metric: str
    differences: dict[str, Interval]


class SetRecord(TypedDict):
    """The scores on a test set, by system and metric.

    `groups` has the mean and standard deviation of each metric, for groups with several seeds. `sha256` is that of its
    source and references, as `src`, `ref`, `ref2` and so on. `seen` has how many of its `sources` and `references` are
    also in the training text, of those sides of it that are known.
    """

    lines: int
    references: int
    sha256: dict[str, str]
    seen: NotRequired[dict[str, int]]
    lower_is_better: list[str]
    scores: dict[str, dict[str, ScoreRecord]]
    groups: dict[str, dict[str, Any]]
    comparisons: list[Comparison]
    gaps: dict[str, GapRecord]


class EvaluatedWith(TypedDict):
    """Where and by what an evaluation was made. `timed` is the date when speed was measured, if it was."""

    date: str
    device: str
    threads: int
    versions: dict[str, str]
    git_revision: str | None
    timed: NotRequired[str]


@with_config(OPEN)
class EvaluationRecord(TypedDict):
    """The content of `evaluation.json`."""

    systems: dict[str, SystemRecord]
    test_sets: dict[str, SetRecord]
    verdict: VerdictRecord | None
    notes: list[str]
    made_with: EvaluatedWith


class FailureHit(TypedDict):
    """A sentence, counted from 1, and the evidence of its failure."""

    line: int
    found: list[str]


class FailureCount(TypedDict):
    """The failures of one kind and system. `rate` has failures `per_thousand`, from `low` to `high`."""

    judged: int
    rate: dict[str, float] | None
    hits: list[FailureHit]


class FailureKind(TypedDict):
    """The failures of one kind by system, or why the kind does not apply."""

    systems: NotRequired[dict[str, FailureCount]]
    not_applicable: NotRequired[str]


class FailureComparison(TypedDict):
    """The sentences that only one of two systems fails, and the p-value of McNemar's exact test, by Holm."""

    kind: KindName
    system: str
    baseline: str
    only_system: list[int]
    only_baseline: list[int]
    p_value_holm: float


class SetFailures(TypedDict):
    """The failures on a test set."""

    kinds: dict[KindName, FailureKind]
    comparisons: list[FailureComparison]


class FailureInputs(TypedDict):
    """What the failures were found in: the files in `texts/`."""

    texts: list[FileEntry]


@with_config(OPEN)
class FailureRecord(TypedDict):
    """The content of `failures.json`."""

    settings: FailureInputs
    test_sets: dict[str, SetFailures]
