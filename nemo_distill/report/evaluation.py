"""Reads the results of an evaluation from its folder: `evaluation.json`, `failures.json` and the scored texts."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import DataError
from nemo_distill.evaluation.evaluation_record import (
    EVALUATION_NAME,
    FAILURES_NAME,
    EvaluationRecord,
    FailureRecord,
)
from nemo_distill.evaluation.evaluation_sets import reference_endings
from nemo_distill.evaluation.likeness import groups_of, members
from nemo_distill.metrics.scores import FEWER_IS_BETTER
from nemo_distill.storage.ledger import sha256_of
from nemo_distill.storage.records import read_json


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation.

    Args:
        folder: the folder with `evaluation.json` and `texts/`.
        record: the content of `evaluation.json`.
        failures: for each test set, its failures by kind and system, and comparisons; empty if none were counted.
    """

    folder: Path
    record: Mapping[str, Any]
    failures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Evaluation":
        """Reads the folder of an evaluation.

        Raises:
            DataError: if the folder contains no evaluation, or failures of other translations.
        """
        record = read_json(folder / EVALUATION_NAME, EvaluationRecord)
        if not record or not record["systems"] or not record["test_sets"]:
            raise DataError(
                f"'{folder}' holds no {EVALUATION_NAME} with systems and test sets; create it with "
                "'nemo-distill evaluate'"
            )
        return cls(folder, record, _failures(folder, record))

    @property
    def systems(self) -> Mapping[str, Mapping[str, Any]]:
        """Size, speed and group of each system, by name. Sizes are compared with the first one."""
        return self.record["systems"]

    @property
    def test_sets(self) -> Mapping[str, Mapping[str, Any]]:
        """For each test set by name, its `scores` by system and metric, and `comparisons` of systems."""
        return self.record["test_sets"]

    @property
    def teacher(self) -> str:
        """The first system."""
        return next(iter(self.systems))

    @property
    def shipped(self) -> str | None:
        """The first system of the group that the verdict says to ship; None without a verdict."""
        verdict = self.record["verdict"]
        return self.groups[verdict["ship"]][0] if verdict else None

    @property
    def metrics(self) -> list[str]:
        """The names of all metrics, such as BLEU, chrF and TER."""
        scores = (of_system for part in self.test_sets.values() for of_system in part["scores"].values())
        return list(dict.fromkeys(metric for of_system in scores for metric in of_system))

    def is_lower_better(self, metric: str) -> bool:
        """True if the best score of a metric is the lowest; for the user's own metrics, the evaluation says so."""
        own = {name for one in self.test_sets.values() for name in one["lower_is_better"]}
        return metric in FEWER_IS_BETTER or metric in own

    @property
    def groups(self) -> dict[str, list[str]]:
        """The systems of each group. They differ only in their seed."""
        return {group: list(members(self.systems, group).values()) for group in groups_of(self.systems)}

    @property
    def default_baseline(self) -> str:
        """The group that the systems were compared with; the first group if there were no comparisons."""
        compared = (one["baseline"] for part in self.test_sets.values() for one in part["comparisons"])
        return self.systems[next(compared, self.teacher)]["group"]

    def average(self, system: str, metric: str) -> float | None:
        """Returns the mean of a system's scores over the test sets; None if one is missing."""
        scores = [one["scores"].get(system, {}).get(metric) for one in self.test_sets.values()]
        return statistics.mean(score["value"] for score in scores) if all(scores) else None

    def references(self, test_set: str) -> list[list[str]]:
        """Returns the references of a test set, file by file."""
        return [self.lines(test_set, ending) for ending in reference_endings(self.test_sets[test_set]["references"])]

    def lines(self, test_set: str, suffix: str) -> list[str]:
        """Returns the lines of `texts/TEST_SET.SUFFIX`.

        Raises:
            DataError: if the file does not exist, or its number of lines is wrong.
        """
        path = self.folder / "texts" / f"{test_set}.{suffix}"
        if not path.is_file():
            raise DataError(f"there is no file '{path}', which {EVALUATION_NAME} refers to")
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        if len(lines) != (expected := self.test_sets[test_set]["lines"]):
            raise DataError(f"'{path}' has {len(lines)} lines; {EVALUATION_NAME} says {expected}")
        return lines


def _failures(folder: Path, record: EvaluationRecord) -> Mapping[str, Any]:
    """Returns the failures of each test set; none if they were not counted.

    Raises:
        DataError: if they were counted in other texts, such as earlier translations.
    """
    path = folder / FAILURES_NAME
    if (found := read_json(path, FailureRecord)) is None:
        return {}
    counted = {text["name"]: text["sha256"] for text in found["settings"]["texts"]}
    for test_set, one in record["test_sets"].items():
        endings = ("src", *reference_endings(one["references"]), *(f"{system}.txt" for system in one["scores"]))
        for name in [f"{test_set}.{ending}" for ending in endings]:
            text = folder / "texts" / name
            changed = text.is_file() and sha256_of(text) != counted.get(name)
            if changed or test_set not in found["test_sets"]:
                raise DataError(
                    f"'{path}' does not count the failures in '{text}', but in another version of it or not at all; "
                    "evaluate again with failures, or delete the file"
                )
    return {test_set: found["test_sets"][test_set] for test_set in record["test_sets"]}
