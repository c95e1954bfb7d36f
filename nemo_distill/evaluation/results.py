"""The scores of trained models, and their gains over baselines of the same size."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """The result of one trained model.

    Args:
        group: models that differ only in their seed have the same group.
        seed: random seed of weights and data order.
        distilled: True for distilled students; False for baselines and the teacher.
        parameters: number of parameters; shared ones count once.
        bleu: corpus BLEU, 0 to 100.
        signature: sacrebleu's signature.
        training_seconds: wall time of the whole training command.
        translation_seconds: wall time of translating the test set.
        label_smoothing: label smoothing of the training; None if it was not recorded.
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
    """The gain of a group over a baseline.

    Args:
        baseline: the group of the baseline.
        baselines: the number of baselines of this size.
        by_seed: the difference in BLEU for each common seed.
        relative: the relative gain of the mean over these seeds; None if the baseline's mean is 0.
        worst: the smallest difference for any seed and any baseline of this size.
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
    """Returns the scores of each group by seed.

    Args:
        results: the results, the teacher first. There is only one teacher for all seeds, so its key is None.
    """
    scores: dict[str, dict[int | None, float]] = {}
    for place, result in enumerate(results):
        scores.setdefault(result.group, {})[result.seed if place else None] = result.bleu
    return scores


def gain_over(group: str, baselines: Sequence[str], results: Sequence[Result]) -> Gain | None:
    """Returns the smallest gain of a group over some baselines; None if there is no common seed.

    Args:
        group: the group.
        baselines: the groups of the baselines.
        results: the results of all models, the teacher first.
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
    theirs = statistics.mean(scores[nearest][seed] for seed in differences[nearest])
    relative = statistics.mean(differences[nearest].values()) / theirs if theirs else None
    worst = min(value for by_seed in differences.values() for value in by_seed.values())
    return Gain(nearest, len(differences), differences[nearest], relative, worst)


def gain_over_size(group: str, results: Sequence[Result]) -> Gain | None:
    """Returns the gain of a method over the baseline of its size with the smallest difference.

    A method that loses to one of several baselines is therefore not reported as better.

    Args:
        group: the group of the method.
        results: the results of all models, the teacher first. The teacher is not a baseline.

    Returns:
        The gain; None for baselines, and for methods without a baseline of the same size and seed.
    """
    sizes = {result.parameters for result in results if result.group == group and result.distilled}
    baselines = [result.group for result in results[1:] if not result.distilled and result.parameters in sizes]
    return gain_over(group, list(dict.fromkeys(baselines)), results)
