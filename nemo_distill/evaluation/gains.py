"""What distilled models gain over the baselines of their size: one rule for all tables and sentences."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nemo_distill.evaluation.evaluation_record import BASELINE, DISTILLED
from nemo_distill.metrics.contrasts import Scores


@dataclass(frozen=True)
class Gain:
    """What a group has more than a baseline.

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
        scores.setdefault(systems[name]["group"], {})[systems[name]["seed"]] = of_system[metric]["value"]
    return scores


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


def gain_over_size(group: str, systems: Mapping[str, Mapping[str, Any]], scores: Scores) -> Gain | None:
    """Returns what a distilled group gains over the baseline of its size that it exceeds by least.

    So no method is said to beat a baseline while it loses to another one of its size.

    Args:
        group: the group.
        systems: of an evaluation, each with `group`, `role` and `parameters`.
        scores: of all groups, by seed.

    Returns:
        The gain; None for a group that is not distilled, or that no baseline has a size and a seed in common with.
    """
    sizes = {
        system["parameters"]
        for system in systems.values()
        if (system["group"], system.get("role")) == (group, DISTILLED) and system["parameters"]
    }
    baselines = [
        system["group"]
        for system in systems.values()
        if system.get("role") == BASELINE and system["parameters"] in sizes
    ]
    return gain_over(group, list(dict.fromkeys(baselines)), scores)


def gain_sentences(evaluation: Mapping[str, Any], test_set: str, metric: str) -> Iterator[str]:
    """Says by how much each distilled group beats the baseline of its size, seed by seed, or that it does not.

    Of several baselines it is the one that the group exceeds by least, which the sentence names then. A group without
    a baseline of its size and seed gets no sentence.

    Args:
        evaluation: as in `evaluation.json`.
        test_set: the name of one of its test sets.
        metric: one of which more is better.
    """
    scores = scores_by_group(evaluation, test_set, metric)
    for group in scores:
        if gain := gain_over_size(group, evaluation["systems"], scores):
            yield _sentence(group, gain, metric)


def _sentence(group: str, gain: Gain, metric: str) -> str:
    named = "the baseline" if gain.baselines == 1 else f"{gain.baseline}, the best of {gain.baselines} baselines"
    if None in gain.by_seed:
        claim = "beats" if gain.worst > 0 else "did NOT beat"
        return f"{group} {claim} {named} of its size: {gain.mean:+.2f} {metric}."
    if gain.worst > 0:
        claim = f"beats {named} of its size with every seed"
    elif gain.mean > 0:
        claim = f"beats {named} of its size on average, but NOT with every seed"
    else:
        claim = f"did NOT beat {named} of its size"
    listed = ", ".join(f"{value:+.2f} (seed {seed})" for seed, value in gain.by_seed.items())
    return f"{group} {claim}: {gain.mean:+.2f} {metric} on average; {listed}."
