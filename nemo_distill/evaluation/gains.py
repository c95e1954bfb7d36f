"""What distilled models gain over the baselines of their size, and which share of the gap to the teacher they close.

Only like is compared with like, see `likeness.py`: where steps or batches differ, tables show both models, but no
sentence says that one of them beats the other. A group is one model with all its seeds.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nemo_distill.evaluation.evaluation_record import DISTILLED, GapRecord, Interval
from nemo_distill.evaluation.likeness import (
    COUNTED,
    Systems,
    baselines_of_size,
    counted,
    first_of,
    groups_of,
    has_teacher,
    marked,
    members,
    scored_like_teacher,
    seeds_match,
    training_difference,
)
from nemo_distill.metrics.significance import CHANCE, TAILS, both_ways, group_p_value, seed_margin, shown_p_value

Scores = Mapping[str, Mapping[int | None, float]]  # by group and seed; the seed is None for systems without seeds
ALMOST_VERTICAL = 1.57  # radians


@dataclass(frozen=True)
class Gain:
    """The difference in score between a group and a baseline.

    Args:
        baseline: the baseline's group.
        baselines: how many there are of this size.
        by_seed: the difference in score for each seed that both have; None is the seed of systems without one.
        relative: of the means over these seeds, as a share; None over a baseline that scores nothing.
        worst: the smallest difference of one seed from any baseline of this size.
    """

    baseline: str
    baselines: int
    by_seed: Mapping[int | None, float]
    relative: float | None
    worst: float

    @property
    def mean(self) -> float:
        """The mean difference."""
        return statistics.mean(self.by_seed.values())


def scores_by_group(evaluation: Mapping[str, Any], test_set: str, metric: str) -> dict[str, dict[int | None, float]]:
    """Returns each group's scores by seed; None is the seed of systems without one, such as a teacher.

    Args:
        evaluation: as in `evaluation.json`.
        test_set: the name of one of its test sets.
        metric: such as `BLEU`.
    """
    systems = evaluation["systems"]
    scores: dict[str, dict[int | None, float]] = {}
    for name, of_system in evaluation["test_sets"][test_set]["scores"].items():
        if metric in of_system:
            scores.setdefault(systems[name]["group"], {})[systems[name]["seed"]] = of_system[metric]["value"]
    return scores


def seed_differences(mine: Mapping[int | None, float], theirs: Mapping[int | None, float]) -> list[float]:
    """Returns the differences of two groups' scores, for each seed of both. One without seeds counts with every seed.

    Args:
        mine: a group's scores by seed.
        theirs: the other's.
    """
    seeds = mine if None in theirs else [seed for seed in theirs if None in mine or seed in mine]
    return [_at(mine, seed) - _at(theirs, seed) for seed in seeds]


def gain_over(group: str, baselines: Sequence[str], scores: Scores) -> Gain | None:
    """Returns the smallest gain of a group over some baselines; None if it has no seed in common with any.

    Args:
        group: the group.
        baselines: groups.
        scores: of all groups, by seed.
    """
    mine, differences = scores[group], {}
    for baseline in baselines:
        theirs = scores.get(baseline, {})
        if common := [seed for seed in mine if seed in theirs]:
            differences[baseline] = {seed: mine[seed] - theirs[seed] for seed in common}
    if not differences:
        return None
    nearest = min(differences, key=lambda baseline: statistics.mean(differences[baseline].values()))
    exceeded = statistics.mean(scores[nearest][seed] for seed in differences[nearest])
    relative = statistics.mean(differences[nearest].values()) / exceeded if exceeded else None
    worst = min(value for by_seed in differences.values() for value in by_seed.values())
    return Gain(nearest, len(differences), differences[nearest], relative, worst)


def gain_over_size(group: str, systems: Systems, scores: Scores) -> Gain | None:
    """Returns what a distilled group gains over the baseline of its size and training that it exceeds by least.

    So no method is said to beat a baseline while it loses to another one of its size.

    Args:
        group: the group.
        systems: of an evaluation, each with `group`, `role`, `parameters`, and `training` where it is known.
        scores: of all groups, by seed.

    Returns:
        The gain; None if the group is not distilled, or if no baseline has the same size, training and seed.
    """
    alike = [
        baseline for baseline in baselines_of_size(systems, group) if not training_difference(systems, group, baseline)
    ]
    return gain_over(group, alike, scores)


def gain_sentences(evaluation: Mapping[str, Any], test_set: str, metric: str) -> Iterator[str]:
    """Says by how much each distilled group beats the baseline of its size, seed by seed, or that it does not.

    Of several baselines it is the one that the group exceeds by least, which the sentence names then. A group without
    a baseline of its size and seed gets no sentence, nor does an export of a model that is there itself.

    Args:
        evaluation: as in `evaluation.json`.
        test_set: the name of one of its test sets.
        metric: one of which more is better.
    """
    systems = evaluation["systems"]
    scores = scores_by_group(evaluation, test_set, metric)
    for group in scores:
        if first_of(systems, group)["same_model_as"]:
            continue
        if gain := gain_over_size(group, systems, scores):
            tests = comparisons_between(evaluation, test_set, metric, group, gain.baseline)
            unknown = _unknown_training(systems, group, gain.baseline)
            yield _sentence(group, gain, marked(metric, systems, metric, group), tests) + unknown
        for baseline in baselines_of_size(systems, group):
            if difference := training_difference(systems, group, baseline):
                yield (
                    f"{group} and {baseline} have the same size but were trained differently ({difference}), so "
                    "neither is said to beat the other."
                )


def _unknown_training(systems: Systems, group: str, baseline: str) -> str:
    """Returns a sentence if it is known of only one of two groups how much it was trained, or nothing."""
    for key, words in COUNTED.items():
        unknown = [one for one in (group, baseline) if not counted(systems, one, key)]
        if len(unknown) == 1:
            said = "How long" if key == "steps" else f"With how many {words}"
            return f" {said} {unknown[0]} was trained is not known, so the trainings may differ."
    return ""


def comparisons_between(
    evaluation: Mapping[str, Any], test_set: str, metric: str, group: str, baseline: str
) -> list[Mapping[str, Any]]:
    """Returns the comparisons of a group with a baseline by a metric, seed by seed.

    Args:
        evaluation: as in `evaluation.json`.
        test_set: the name of one of its test sets.
        metric: such as `BLEU`.
        group: the group.
        baseline: another group.
    """
    systems, tested = evaluation["systems"], evaluation["test_sets"][test_set]["comparisons"]
    mine, theirs = (set(members(systems, one).values()) for one in (group, baseline))
    return [
        one
        for one in both_ways(one for one in tested if one["metric"] == metric)
        if one["system"] in mine and one["baseline"] in theirs and seeds_match(systems, one["system"], one["baseline"])
    ]


def _sentence(group: str, gain: Gain, metric: str, tests: Sequence[Mapping[str, Any]]) -> str:
    named = "the baseline" if gain.baselines == 1 else f"{gain.baseline}, the best of {gain.baselines} baselines"
    if len(gain.by_seed) == 1:  # nothing but a test tells whether one difference may be chance
        p_value = group_p_value(tests) if tests else None
        tested = "not tested" if p_value is None else shown_p_value(p_value)
        differs = p_value is None or p_value < CHANCE
        claim = "scores more than" if p_value is None else "beats" if differs else "does NOT beat"
        claim = "did NOT beat" if gain.worst <= 0 else claim
        by_chance = "" if differs or gain.worst <= 0 else " by more than chance"
        (seed,) = gain.by_seed
        where = tested if seed is None else f"seed {seed} alone, {tested}"
        return f"{group} {claim} {named} of its size{by_chance}: {gain.mean:+.2f} {metric} ({where})."
    if gain.worst > 0:
        claim = f"beats {named} of its size with every seed"
    elif gain.mean > 0:
        claim = f"beats {named} of its size on average, but NOT with every seed"
    else:
        claim = f"did NOT beat {named} of its size"
    listed = ", ".join(f"{value:+.2f} (seed {seed})" for seed, value in gain.by_seed.items())
    return f"{group} {claim}: {gain.mean:+.2f} {metric} on average; {listed}."


def gaps_closed(
    evaluation: Mapping[str, Any], test_set: str, metric: str, resampled: Mapping[str, Sequence[float]]
) -> dict[str, GapRecord]:
    """Returns which share of the distance from its baseline to the teacher each distilled group closes.

    (student - baseline) / (teacher - baseline), seed by seed. The baseline is that of `gain_over_size`, the teacher
    the first system, unless it is a baseline or distilled itself. All three have the same search and precision.

    Args:
        evaluation: `systems`, and `test_sets` with scores and comparisons, as in `evaluation.json`.
        test_set: the name of one of its test sets.
        metric: one of which more is better.
        resampled: each system's scores on the same resamples of the sentences.
    """
    systems = evaluation["systems"]
    if not has_teacher(systems):
        return {}
    distilled = [group for group in groups_of(systems) if first_of(systems, group)["role"] == DISTILLED]
    return {group: _gap(evaluation, test_set, metric, group, resampled) for group in distilled}


def _gap(
    evaluation: Mapping[str, Any], test_set: str, metric: str, group: str, resampled: Mapping[str, Sequence[float]]
) -> GapRecord:
    systems, scores = evaluation["systems"], scores_by_group(evaluation, test_set, metric)
    found: GapRecord = {"metric": metric, "teacher": None, "baseline": None, "closed": None, "reason": None}
    teacher, gain = scored_like_teacher(systems, group), gain_over_size(group, systems, scores)
    if gain is None:
        differences = {one: training_difference(systems, group, one) for one in baselines_of_size(systems, group)}
        unlike = [f"other training than {one} ({why})" for one, why in differences.items() if why]
        return found | {"reason": "; ".join(unlike) or "no baseline of its size and seed"}
    found |= {"baseline": gain.baseline}
    if teacher is None:
        return found | {
            "reason": "the teacher was not evaluated in this engine and precision, or not with this beam size"
        }
    found |= {"teacher": teacher}
    if not (tests := comparisons_between(evaluation, test_set, metric, teacher, gain.baseline)):
        return found | {"reason": f"the difference between {teacher} and {gain.baseline} was not tested"}
    if group_p_value(tests) >= CHANCE or tests[0]["difference"] <= 0:
        return found | {"reason": f"{teacher} is not better than {gain.baseline} by more than chance"}
    places = gain.baseline, group, teacher
    return found | {"closed": _closed(systems, scores, resampled, places, list(gain.by_seed))}


def _closed(
    systems: Systems,
    scores: Scores,
    resampled: Mapping[str, Sequence[float]],
    places: tuple[str, str, str],
    seeds: Sequence[int | None],
) -> Interval:
    """Returns the share that is closed, with the confidence interval over seeds, or over sentences for a single seed.

    Args:
        places: the groups between which the gap is measured: baseline, student and teacher.
    """
    shares = []
    for seed in seeds:
        start, student, teacher = (_at(scores[group], seed) for group in places)
        shares.append((student - start) / (teacher - start))
    of_seed = (_at(members(systems, group), seeds[0]) for group in places)
    start, student, teacher = (np.array(resampled[name]) for name in of_seed)
    # As an angle, because the share jumps between plus and minus infinity where the teacher's distance is zero.
    angles = np.arctan2(student - start, teacher - start)
    return interval(shares, np.tan(np.clip(angles, -ALMOST_VERTICAL, ALMOST_VERTICAL)))


def _at(by_seed: Mapping[int | None, Any], seed: int | None) -> Any:
    """Returns the value of a seed. That of a group of one system, such as a teacher, is the same with every seed."""
    return by_seed[seed] if seed in by_seed else next(iter(by_seed.values()))


def interval(by_seed: Sequence[float], resampled: np.ndarray) -> Interval:
    """Returns the mean over seeds, and where it lies.

    With three seeds or more, that is the confidence interval by Student's t of the values. Two values give no useful
    interval, so both are returned. With one seed, it is the confidence interval over the choice of sentences: the
    central part of the values on resamples (paired bootstrap, Koehn 2004).

    Args:
        by_seed: one value per seed.
        resampled: the value on each resample, for a single seed.
    """
    value = statistics.mean(by_seed)
    if len(by_seed) == 2:
        return {"value": value, "low": min(by_seed), "high": max(by_seed), "seeds": 2, "over": "both seeds"}
    if len(by_seed) > 1:
        margin = seed_margin(by_seed)
        return {"value": value, "low": value - margin, "high": value + margin, "seeds": len(by_seed), "over": "seeds"}
    low, high = map(float, np.percentile(resampled, TAILS))
    return {"value": value, "low": low, "high": high, "seeds": 1, "over": "sentences"}
