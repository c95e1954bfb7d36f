"""Tests differences of scores between models that were trained with several seeds.

A contrast is a sum of the scores of some groups minus the scores of others, computed for each seed. Models with the
same seed and size start with the same weights. Much of a seed's effect is the same for them and cancels out, as in a
paired t test.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nemo_distill.evaluation.gains import Scores
from nemo_distill.metrics.significance import CONFIDENCE, TIE, seed_margin

HOLDS, FAILS, OPEN = "holds", "does not hold", "open"
POWER = 0.8  # probability that a true difference is found


@dataclass(frozen=True)
class Contrast:
    """A claim that the scores of some groups exceed those of others.

    Args:
        plus: groups whose scores are added.
        minus: groups whose scores are subtracted.
        above: the value that the sum is claimed to exceed.
    """

    plus: Sequence[str]
    minus: Sequence[str]
    above: float = 0.0

    def by_seed(self, scores: Scores) -> list[float]:
        """Returns the sum for each seed that all groups have. A system without seeds is used with every seed."""
        groups = [scores.get(group, {}) for group in (*self.plus, *self.minus)]
        seeded = [{seed for seed in group if seed is not None} for group in groups if None not in group]
        seeds = sorted(set.intersection(*seeded)) if seeded else [None]
        signs = [1] * len(self.plus) + [-1] * len(self.minus)
        return [
            sum(sign * group[seed if seed in group else None] for sign, group in zip(signs, groups)) for seed in seeds
        ]

    def estimate(self, scores: Scores) -> float:
        """Returns the mean over seeds; NaN if the groups have no seed in common."""
        return statistics.mean(self.by_seed(scores) or [math.nan])

    def margin(self, scores: Scores, two_sided: bool = False) -> float:
        """Returns the half-width of the confidence interval, by Student's t; infinity with fewer than two seeds.

        Args:
            two_sided: use a two-sided interval instead of a one-sided one, which suits a claim made in advance.
        """
        return seed_margin(self.by_seed(scores), two_sided)

    def verdict(self, scores: Scores) -> str:
        """Returns `HOLDS` or `FAILS` if the result is significant, otherwise `OPEN`."""
        excess, margin = self.estimate(scores) - self.above, self.margin(scores)
        if abs(excess) > margin + TIE:
            return HOLDS if excess > 0 else FAILS
        return OPEN


def seeds_needed(values: Sequence[float], excess: float) -> int | None:
    """Returns the number of seeds with which a one-sided test finds a true excess over a limit.

    It finds it with the probability `POWER`, if the spread over seeds is that of `values`. The test statistic then has
    a noncentral t distribution (Cohen 1988, Statistical Power Analysis for the Behavioral Sciences).

    Args:
        values: the differences of a pilot, one for each seed. Few of them tell their spread only roughly.
        excess: the true mean minus the limit, above 0.

    Returns:
        at least 2; None with fewer than two values.
    """
    if len(values) < 2:
        return None
    from scipy.stats import nct, norm, t  # takes a second to import

    deviation = statistics.stdev(values)
    if not deviation:
        return 2
    # The normal distribution needs fewer seeds than t, so the search begins there.
    needed = max(2, math.floor(((norm.ppf(CONFIDENCE) + norm.ppf(POWER)) * deviation / excess) ** 2))
    while nct.sf(t.ppf(CONFIDENCE, needed - 1), needed - 1, excess / deviation * math.sqrt(needed)) < POWER:
        needed += 1
    return needed


def joint_verdict(verdicts: Sequence[str]) -> str:
    """Returns the verdict on a claim with several contrasts: it holds if all hold, and fails if one fails.

    The error rate of `HOLDS` is at most that of a single contrast. The error rates of `FAILS` add up.
    """
    if FAILS in verdicts:
        return FAILS
    return OPEN if OPEN in verdicts else HOLDS
