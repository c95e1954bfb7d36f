"""Whether differences of scores are more than chance, from models that were trained with several seeds.

A contrast is a sum of groups' scores, some of them subtracted, taken seed by seed. Models of one seed and size start
with the same weights: much of what a seed does to one of them it does to the others, and cancels (a paired t test).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HOLDS, FAILS, OPEN = "holds", "does not hold", "open"
CONFIDENCE = 0.95  # of one contrast by itself: that a verdict other than open is right
EXACTNESS = 1e-9  # of a sum of scores: below it, a margin of nothing is not exceeded
Scores = Mapping[str, Mapping[int | None, float]]  # of each group, by seed; None alone where a system has no seeds


@dataclass(frozen=True)
class Contrast:
    """A claim that the scores of some groups exceed those of others.

    Args:
        plus: groups whose scores are added.
        minus: groups whose scores are subtracted.
        above: what the sum is claimed to be above.
    """

    plus: Sequence[str]
    minus: Sequence[str]
    above: float = 0.0

    def by_seed(self, scores: Scores) -> list[float]:
        """Returns the sum for each seed that all groups have; a system without seeds counts with each."""
        groups = [scores.get(group, {}) for group in (*self.plus, *self.minus)]
        seeded = [{seed for seed in group if seed is not None} for group in groups if None not in group]
        seeds = sorted(set.intersection(*seeded)) if seeded else [None]
        signs = [1] * len(self.plus) + [-1] * len(self.minus)
        return [
            sum(sign * group[seed if seed in group else None] for sign, group in zip(signs, groups)) for seed in seeds
        ]

    def estimate(self, scores: Scores) -> float:
        """Returns the mean over seeds; not a number where the groups have none in common."""
        return statistics.mean(self.by_seed(scores) or [math.nan])

    def margin(self, scores: Scores, two_sided: bool = False) -> float:
        """Returns how far the true value may be from the estimate, by Student's t; infinity below two seeds.

        Args:
            scores: of each group.
            two_sided: on both sides; else on one that is given beforehand, as by a claim.
        """
        values = self.by_seed(scores)
        if len(values) < 2:
            return math.inf
        from scipy.stats import t  # a second, which configs can be checked without

        error = (1 - CONFIDENCE) / (2 if two_sided else 1)
        return float(t.ppf(1 - error, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))

    def verdict(self, scores: Scores) -> str:
        """Returns `HOLDS` or `FAILS` where that is more than chance, and `OPEN` elsewhere."""
        excess, margin = self.estimate(scores) - self.above, self.margin(scores)
        if abs(excess) > margin + EXACTNESS:
            return HOLDS if excess > 0 else FAILS
        return OPEN


def joint_verdict(verdicts: Sequence[str]) -> str:
    """Returns what a claim of several contrasts comes to: it holds if all do, and does not if one does not.

    That it holds is wrong no more often than of one contrast; that it does not hold, as often as any of them is.
    """
    if FAILS in verdicts:
        return FAILS
    return OPEN if OPEN in verdicts else HOLDS
