"""Whether differences of mean scores are more than chance, from models that were trained with several seeds.

A contrast is a sum of groups' mean scores, some of them subtracted. Its variance comes from the spread of seeds, which
groups of one kind share, such as models of one size (one-way analysis of variance), so that a group of one seed has an
uncertainty too. Kinds may differ in their spread: a contrast across them has the degrees of freedom of Welch (1947).
"""

import math
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

HOLDS, FAILS, OPEN = "holds", "does not hold", "open"
CONFIDENCE = 0.95  # of one contrast by itself: that a verdict other than open is right


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

    def margin(
        self, scores: Mapping[str, Sequence[float]], spreads: Mapping[str, Spread], two_sided: bool = False
    ) -> float:
        """Returns how far the true value may be from the estimate; infinity where a spread is missing.

        Args:
            scores: of each group, one a seed.
            spreads: of each group, as `pooled_spreads` returns them.
            two_sided: on both sides; else on one that is given beforehand, as by a claim.
        """
        variances: dict[Spread, float] = {}
        for group in (*self.plus, *self.minus):
            if group not in spreads:
                return math.inf
            spread = spreads[group]
            variances[spread] = variances.get(spread, 0.0) + spread.deviation**2 / len(scores[group])
        if not (variance := sum(variances.values())):
            return 0.0
        from scipy.stats import t  # a second, which configs can be checked without

        freedom = variance**2 / sum(part**2 / spread.freedom for spread, part in variances.items())
        error = (1 - CONFIDENCE) / (2 if two_sided else 1)
        return float(t.ppf(1 - error, freedom)) * math.sqrt(variance)

    def verdict(self, scores: Mapping[str, Sequence[float]], spreads: Mapping[str, Spread]) -> str:
        """Returns `HOLDS` or `FAILS` where that is more than chance, and `OPEN` elsewhere."""
        excess, margin = self.estimate(scores) - self.above, self.margin(scores, spreads)
        if abs(excess) <= margin:
            return OPEN
        return HOLDS if excess > 0 else FAILS


def pooled_spreads(
    scores: Mapping[str, Sequence[float]], kinds: Mapping[str, Hashable] | None = None
) -> dict[str, Spread]:
    """Returns each group's spread over seeds, which groups of one kind share.

    A kind of which no group has two seeds has the spread of all kinds together; where no group at all has, nothing is
    returned.

    Args:
        scores: of each group, one a seed.
        kinds: of each group; None if all are of one kind.
    """
    kinds = kinds or dict.fromkeys(scores)
    overall = _pooled(scores.values())
    by_kind = {
        kind: _pooled(values for group, values in scores.items() if kinds[group] == kind) or overall
        for kind in {kinds[group] for group in scores}
    }
    return {group: spread for group in scores if (spread := by_kind[kinds[group]])}


def _pooled(groups: Iterable[Sequence[float]]) -> Spread | None:
    several = [values for values in groups if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return None
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in several)
    return Spread(math.sqrt(squares / freedom), freedom)


def joint_verdict(verdicts: Sequence[str]) -> str:
    """Returns what a claim of several contrasts comes to: it holds if all do, and does not if one does not."""
    if FAILS in verdicts:
        return FAILS
    return OPEN if OPEN in verdicts else HOLDS
