"""Which system of an evaluation to ship, what it costs in quality, and what it gains in size and speed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from nemo_distill.evaluation.evaluation_record import TEXT_ONLY, Interval, Reason, VerdictRecord
from nemo_distill.evaluation.gains import interval
from nemo_distill.evaluation.likeness import (
    MARK,
    Systems,
    compared_with,
    factor_sentence,
    first_of,
    groups_of,
    has_teacher,
    kind,
    kind_in_words,
    marked,
    mean_of,
    members,
    selected_labels,
    teachers,
)
from nemo_distill.metrics.scores import FEWER_IS_BETTER
from nemo_distill.metrics.significance import TAILS

ABOUT_EQUAL = 0.9  # of the best speed or size
SPEED, SIZE = "sentences_per_second", "bytes"


def verdict(
    evaluation: Mapping[str, Any], metric: str, resampled: Mapping[str, Mapping[str, Sequence[float]]]
) -> VerdictRecord | None:
    """Chooses the system to ship; None if there is no choice, systems of text only aside.

    First, systems are kept that are not worse than the best one by more than chance, over the choice of sentences. Of
    these, those are kept that are about as fast as the fastest (`ABOUT_EQUAL`), or as small as the smallest if speed
    was not measured. The one of them with the best score is chosen, unless the teacher in its engine and precision is
    better by more than chance and costs no more: then the teacher is. The teacher is the first system; if that has a
    role, there is none, and the first system is a candidate too.

    Args:
        evaluation: `systems` and `test_sets` with scores, as in `evaluation.json`.
        metric: what quality is measured by.
        resampled: for each test set, each system's scores on the same resamples of the sentences.
    """
    systems, sets = evaluation["systems"], evaluation["test_sets"]
    sign = -1 if metric in FEWER_IS_BETTER else 1
    scores = {
        name: sign * float(np.mean([one["scores"][name][metric]["value"] for one in sets.values()]))
        for name in systems
    }
    samples = {name: sign * np.mean([of_set[name] for of_set in resampled.values()], axis=0) for name in systems}
    candidates = _candidates(systems)
    if len(candidates) < (1 if has_teacher(systems) else 2):
        return None
    groups = {group: _mean(systems, group, scores) for group in candidates}
    sampled = {group: _mean(systems, group, samples) for group in candidates}
    best = max(groups, key=groups.__getitem__)
    good = [group for group in groups if np.percentile(sampled[group] - sampled[best], TAILS[1]) >= 0]
    measure = SPEED if all(mean_of(systems, group, SPEED) for group in good) else SIZE
    costs = {group: _cost(systems, group, measure) for group in good}
    cheapest = min(costs, key=costs.__getitem__)
    near = [group for group in good if costs[group] * ABOUT_EQUAL <= costs[cheapest]]
    ship = max(near, key=groups.__getitem__)
    because: Reason = "only" if len(groups) == 1 else "first" if ship == cheapest else "best"
    if has_teacher(systems):
        teacher = compared_with(systems, ship) or groups_of(systems)[0]
        against = dict.fromkeys([teacher, groups_of(systems)[0]])
        beaten = np.percentile(sampled[ship] - _mean(systems, teacher, samples), TAILS[1]) < 0
        if beaten and _cost(systems, teacher, measure) <= costs[ship] < math.inf:
            ship, because, against = teacher, "teacher", {ship: None}
    else:
        others = [group for group in groups if group != ship]
        alike = [group for group in others if kind(systems, group) == kind(systems, ship)]
        against = {max(alike or others, key=groups.__getitem__): None}
    return {
        "ship": ship,
        "because": because,
        "measure": "speed" if measure == SPEED else "size",
        "metric": metric,
        "differences": {other: _difference(systems, ship, other, scores, samples, sign) for other in against},
    }


def _cost(systems: Systems, group: str, measure: str) -> float:
    """Returns a group's seconds for a sentence or its bytes, infinite where they were not measured."""
    value = mean_of(systems, group, measure)
    if not value:
        return math.inf
    return 1 / value if measure == SPEED else value


def _candidates(systems: Systems) -> list[str]:
    """Returns all groups but those of the teacher's model, and those of text only."""
    excluded = teachers(systems) if has_teacher(systems) else []
    others = [group for group in groups_of(systems) if group not in excluded]
    return [group for group in others if first_of(systems, group)["engine"] != TEXT_ONLY]


def _mean(systems: Systems, group: str, values: Mapping[str, Any]) -> Any:
    return sum(values[name] for name in members(systems, group).values()) / len(members(systems, group))


def _difference(
    systems: Systems, group: str, other: str, scores: Mapping[str, float], samples: Mapping[str, np.ndarray], sign: int
) -> Interval:
    theirs = members(systems, other)
    pairs = [(name, theirs.get(seed)) for seed, name in members(systems, group).items()]
    by_seed = [sign * (scores[name] - (scores[one] if one else _mean(systems, other, scores))) for name, one in pairs]
    resampled = sign * (_mean(systems, group, samples) - _mean(systems, other, samples))
    return interval(by_seed, resampled)


def verdict_sentences(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Yields three sentences: which system to ship, what it costs in quality, and what it gains in size and speed.

    Args:
        evaluation: as in `evaluation.json`.
    """
    found: VerdictRecord | None = evaluation["verdict"]
    if not found:
        return
    systems, ship = evaluation["systems"], found["ship"]
    yield f"Ship {ship} ({kind_in_words(systems, ship)}): {_because(found)}."
    yield f"It has {_costs(found, systems)}{_closed(evaluation, ship)}.{_reserve(evaluation, found)}"
    other = next(iter(found["differences"]))
    said = factor_sentence(systems, ship, other)
    untimed = "" if mean_of(systems, ship, SPEED) else " Its speed was not measured."
    yield f"{said or f'The size of {other} is not known.'}{untimed}"


def _because(found: VerdictRecord) -> str:
    cheapest, cheaper, about = {"speed": ("fastest", "faster", "fast"), "size": ("smallest", "smaller", "small")}[
        found["measure"]
    ]
    return {
        "only": "it is the only candidate besides the teacher",
        "first": f"of the students that are as good as the best one, within chance, it is the {cheapest}",
        "best": f"of the students that are as good as the best one, within chance, and about as {about} as the "
        f"{cheapest} of them, it has the best score",
        "teacher": f"{next(iter(found['differences']))}, the best choice among the others, translates worse than this "
        f"teacher and is not {cheaper}",
    }[found["because"]]


def _costs(found: VerdictRecord, systems: Systems) -> str:
    parts = [
        f"{difference['value']:+.2f} {marked(found['metric'], systems, found['metric'], found['ship'], other)} "
        f"against {other} ({shown_interval(difference)})"
        for other, difference in found["differences"].items()
    ]
    return " and ".join(parts)


def _reserve(evaluation: Mapping[str, Any], found: VerdictRecord) -> str:
    """Returns a sentence if the metric of the verdict selected labels of a candidate, so that it may favour it."""
    systems, metric = evaluation["systems"], found["metric"]
    groups = [group for group in _candidates(systems) if selected_labels(systems, metric, group)]
    if not groups:
        return ""
    (first, *_) = (of_system for one in evaluation["test_sets"].values() for of_system in one["scores"].values())
    others = [name for name in first if not any(selected_labels(systems, name, group) for group in groups)]
    check = f"see whether {others[0]} agrees" if others else "check it by another metric"
    return f" {MARK} {metric} also selected the labels that {', '.join(groups)} learned from: {check}."


def shown_interval(found: Interval) -> str:
    """Returns where a value lies with 95 % confidence and what that accounts for, or the values of two seeds."""
    low, high = (f"{found[end]:+.2f}" for end in ("low", "high"))
    if found["over"] == "both seeds":
        return f"{low} and {high} with the two seeds"
    over = f"over {found['seeds']} seeds" if found["over"] == "seeds" else "over sentences"
    return f"95 %: {low} to {high}, {over}"


def _closed(evaluation: Mapping[str, Any], group: str) -> str:
    """Returns which share of the gap a group closes, as a part of a sentence; "" where that is not given."""
    parts = []
    for name, one in evaluation["test_sets"].items():
        gap = one["gaps"].get(group)
        if gap and gap["closed"]:
            on = f" on {name}" if len(evaluation["test_sets"]) > 1 else ""
            parts.append(
                f"closes {shown_share(gap['closed'])} of the gap between {gap['baseline']} and {gap['teacher']}{on}"
            )
    return "".join(f"; it {part}" for part in parts)


def shown_share(closed: Interval) -> str:
    """Returns the closed share of a gap, such as `61 % (48 to 75 %)`; of two seeds `61 % (57 and 65 %)`."""
    value, low, high = (100 * closed[key] for key in ("value", "low", "high"))
    between = "and" if closed["over"] == "both seeds" else "to"
    return f"{round(value)} % ({round(low)} {between} {round(high)} %)"  # as integers, because zero has no sign then
