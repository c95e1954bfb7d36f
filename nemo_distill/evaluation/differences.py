"""The differences that an evaluation tested, of two systems or of two groups of seeds, as sentences and as a table."""

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nemo_distill.evaluation.gains import scores_by_group, seed_differences
from nemo_distill.evaluation.likeness import (
    Systems,
    first_of,
    marked,
    members,
    seeds_match,
    unfair_comparison,
)
from nemo_distill.metrics.significance import CHANCE, TIE, both_ways, group_p_value, seed_margin, shown_p_value

SYSTEM, AGAINST, UNFAIR = "system", "against", "trained differently"


@dataclass(frozen=True)
class Difference:
    """How much better one system or group scored than another on a test set.

    Args:
        system: its name, or its group's.
        baseline: the other's.
        metric: by which they were compared.
        mark: `MARK` if the metric selected labels that one of them learned from, else "".
        value: the difference of the scores, for groups the mean over the seeds that both have; NaN without such seeds.
        margin: for groups, half of the confidence interval over seeds, infinite with fewer than two; else None.
        p_value: about the choice of sentences; for groups the largest of the seeds.
        test: how the p-value was computed, see `how_tested`.
        unfair: how the trainings differ, if only that may explain the difference; else None.
        of_models: False for an export beside anything but what was exported.
    """

    system: str
    baseline: str
    metric: str
    mark: str
    value: float
    margin: float | None
    p_value: float
    test: str
    unfair: str | None
    of_models: bool

    @property
    def over_seeds(self) -> bool:
        """True if two seeds or more were compared."""
        return self.margin is not None and not math.isinf(self.margin)

    @property
    def more_than_chance(self) -> bool:
        """True if it is, over seeds where there are several, else over sentences."""
        if self.margin is None or not self.over_seeds:
            return self.p_value < CHANCE
        return abs(self.value) > self.margin + TIE

    @property
    def sentence(self) -> str:
        """A sentence that says what differs, and whether that may be chance."""
        by_sentences = _verdict(self.p_value < CHANCE)
        unfair = f"; they were {UNFAIR} ({self.unfair}), so this says nothing about the methods" if self.unfair else ""
        if self.margin is None:
            return (
                f"{self.system} has {self.value:+.2f} {self.metric}{self.mark} against {self.baseline}, "
                f"{by_sentences} ({shown_p_value(self.p_value)}, {self.test}){unfair}."
            )
        seeds = f"{self.metric}{self.mark} over seeds: fewer than two of them in common"
        if self.over_seeds:
            verdict = _verdict(self.more_than_chance)
            seeds = f"{self.value:+.2f} ± {self.margin:.2f} {self.metric}{self.mark} over seeds, {verdict}"
        return (
            f"{self.system} against {self.baseline}: {seeds}; over sentences, {by_sentences} "
            f"(largest {shown_p_value(self.p_value)}){unfair}."
        )

    @property
    def cell(self) -> str:
        """The difference in a table, in bold if it is more than chance."""
        value = "" if math.isnan(self.value) else f"{self.value:+.2f}"
        value += f" ± {self.margin:.2f}" if self.over_seeds else ""
        shown = f"**{value}**" if value and self.more_than_chance else value
        return f"{shown}{self.mark} ({shown_p_value(self.p_value)})".strip()


def differences(evaluation: Mapping[str, Any], set_name: str) -> Iterator[Difference]:
    """Yields what was tested on a test set: pairs of single systems, then those of which one is a group of seeds.

    Args:
        evaluation: the content of `evaluation.json`.
        set_name: the name of one of its test sets.
    """
    one, systems = evaluation["test_sets"][set_name], evaluation["systems"]
    for found in one["comparisons"]:
        groups = [systems[found[side]]["group"] for side in ("system", "baseline")]
        if not one["groups"].keys() & set(groups):
            yield Difference(
                system=found["system"],
                baseline=found["baseline"],
                value=found["difference"],
                margin=None,
                p_value=found["p_value"],
                test=how_tested(found),
                **_judged(systems, found["metric"], *groups),
            )
    for group in one["groups"]:
        yield from _of_group(evaluation, set_name, group)


def _judged(systems: Systems, metric: str, group: str, other: str) -> dict[str, Any]:
    """Returns the metric, and what must be known of two groups to judge their difference by it."""
    return {
        "metric": metric,
        "mark": marked("", systems, metric, group, other),
        "unfair": unfair_comparison(systems, group, other),
        "of_models": _is_of_models(systems, group, other),
    }


def how_tested(found: Mapping[str, Any]) -> str:
    """Returns how a comparison's p-value was computed, such as `approximate randomization of 10,000`."""
    return f"{found['test'].replace('_', ' ')} of {found['samples']:,}"


def _is_of_models(systems: Systems, group: str, other: str) -> bool:
    origins = {first_of(systems, one)["same_model_as"] for one in (group, other)}
    return origins == {None} or bool(origins & {*members(systems, group).values(), *members(systems, other).values()})


def _of_group(evaluation: Mapping[str, Any], set_name: str, group: str) -> Iterator[Difference]:
    one, systems = evaluation["test_sets"][set_name], evaluation["systems"]
    compared: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    leading: dict[frozenset[str], str] = {}  # of two groups with several seeds, that of the first comparison
    for found in both_ways(one["comparisons"]):
        mine, theirs = (systems[found[side]]["group"] for side in ("system", "baseline"))
        if theirs in one["groups"] and leading.setdefault(frozenset((mine, theirs)), mine) != mine:
            continue
        if mine == group != theirs and seeds_match(systems, found["system"], found["baseline"]):
            compared.setdefault((theirs, found["metric"]), []).append(found)
    for (baseline, metric), comparisons in compared.items():
        scores = scores_by_group(evaluation, set_name, metric)
        by_seed = seed_differences(*(scores.get(one, {}) for one in (group, baseline)))
        yield Difference(
            system=group,
            baseline=baseline,
            value=statistics.mean(by_seed or [math.nan]),
            margin=seed_margin(by_seed),
            p_value=group_p_value(comparisons),
            test="",
            **_judged(systems, metric, group, baseline),
        )


def _verdict(differs: bool) -> str:
    return "more than chance" if differs else "not more than chance"


def difference_table(evaluation: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns the columns and cells of a table with a row for two systems or groups, and a column for a test set."""
    scores: dict[str, None] = {}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for set_name in evaluation["test_sets"]:
        for one in differences(evaluation, set_name):
            scores[column := f"{set_name} {one.metric}"] = None
            row = rows.setdefault((one.system, one.baseline), {SYSTEM: one.system, AGAINST: one.baseline})
            row |= {column: one.cell, UNFAIR: one.unfair or ""}
    unfair = [UNFAIR] if any(row[UNFAIR] for row in rows.values()) else []
    columns = [SYSTEM, AGAINST, *scores, *unfair]
    return columns, [[row.get(column, "") for column in columns] for row in rows.values()]
