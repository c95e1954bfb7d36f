"""Whether differences of mean scores are more than chance, from models that were trained with several seeds.

A contrast is a sum of groups' mean scores, some of them subtracted. Its variance comes from the spread of all groups'
seeds, pooled (one-way analysis of variance), so that it takes seeds to be about as scattered in one group as in
another; a group of one seed then has an uncertainty too.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

HOLDS, FAILS, OPEN = "holds", "does not hold", "open"
CONFIDENCE = 0.95  # that a verdict other than open is right, of one contrast by itself


class Spread(NamedTuple):
    """The standard deviation of a score over seeds, and how many degrees of freedom it was estimated with."""

    deviation: float
    freedom: int


@dataclass(frozen=True)
class Contrast:
    """A claim that the scores of some groups exceed those of others.

    Args:
        plus: groups whose mean scores are added.
        minus: groups whose mean scores are subtracted.
        above: what the sum is claimed to be above.
    """

    plus: Sequence[str]
    minus: Sequence[str]
    above: float = 0.0

    def estimate(self, scores: Mapping[str, Sequence[float]]) -> float:
        """Returns the sum of the groups' means."""
        means = [statistics.mean(scores[group]) for group in self.plus]
        return sum(means) - sum(statistics.mean(scores[group]) for group in self.minus)

    def margin(self, scores: Mapping[str, Sequence[float]], spread: Spread | None) -> float:
        """Returns how far the true value may be from the estimate, on either side; infinity without a spread."""
        if spread is None:
            return math.inf
        from scipy.stats import t  # a second, which configs can be checked without

        variance = sum(1 / len(scores[group]) for group in (*self.plus, *self.minus)) * spread.deviation**2
        return float(t.ppf(CONFIDENCE, spread.freedom)) * math.sqrt(variance)

    def verdict(self, scores: Mapping[str, Sequence[float]], spread: Spread | None) -> str:
        """Returns `HOLDS` or `FAILS` where that is more than chance, and `OPEN` elsewhere."""
        excess, margin = self.estimate(scores) - self.above, self.margin(scores, spread)
        if abs(excess) <= margin:
            return OPEN
        return HOLDS if excess > 0 else FAILS


def pooled_spread(scores: Mapping[str, Sequence[float]]) -> Spread | None:
    """Returns the spread over seeds within groups; None if no group has two.

    Args:
        scores: of each group, one a seed.
    """
    groups = [values for values in scores.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    if not freedom:
        return None
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in groups)
    return Spread(math.sqrt(squares / freedom), freedom)


def joint_verdict(verdicts: Sequence[str]) -> str:
    """Returns what a claim of several contrasts comes to: it holds if all do, and does not if one does not."""
    if FAILS in verdicts:
        return FAILS
    return OPEN if OPEN in verdicts else HOLDS
