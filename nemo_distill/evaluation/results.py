"""What trained models scored, and what they gain over the baselines of their size: one rule for all tables."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One trained model, scored.

    Args:
        group: models that differ by their seed alone share a group.
        seed: of weights and data order.
        distilled: whether it is a method that is compared with baselines; False for these and for the teacher.
        parameters: all of the model's, shared ones counted once.
        bleu: corpus BLEU, 0 to 100.
        signature: sacrebleu's.
        training_seconds: wall time of the whole training command.
        translation_seconds: wall time of translating the test set.
        label_smoothing: that it was trained with; None where that was not recorded.
    """

    group: str
    seed: int
    distilled: bool
    parameters: int
    bleu: float
    signature: str
    training_seconds: float
    translation_seconds: float
    label_smoothing: float | None = None


@dataclass(frozen=True)
class Gain:
    """What a group has more than a baseline.

    Args:
        baseline: the baseline's group.
        baselines: how many there are of this size.
        by_seed: the difference in BLEU for each seed that both have.
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


def scores_by_group(results: Sequence[Result]) -> dict[str, dict[int | None, float]]:
    """Returns each group's scores by seed.

    Args:
        results: the first is the teacher: of it there is one, whatever its seed, which counts with each seed of the
            others, and so has the key None.
    """
    scores: dict[str, dict[int | None, float]] = {}
    for place, result in enumerate(results):
        scores.setdefault(result.group, {})[result.seed if place else None] = result.bleu
    return scores


def gain_over(group: str, baselines: Sequence[str], results: Sequence[Result]) -> Gain | None:
    """Returns the smallest gain of a group over some baselines; None if it has no seed in common with any.

    Args:
        group: the group.
        baselines: groups.
        results: of all models, the teacher first.
    """
    scores = scores_by_group(results)
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


def gain_over_size(group: str, results: Sequence[Result]) -> Gain | None:
    """Returns what a method gains over the baseline of its size that it exceeds by least.

    So no method is said to beat a baseline while it loses to another one of its size.

    Args:
        group: the method's.
        results: of all models, the teacher first, which is no baseline.

    Returns:
        The gain; None of a baseline, and of a method that no baseline has a size and a seed in common with.
    """
    sizes = {result.parameters for result in results if result.group == group and result.distilled}
    baselines = [result.group for result in results[1:] if not result.distilled and result.parameters in sizes]
    return gain_over(group, list(dict.fromkeys(baselines)), results)
