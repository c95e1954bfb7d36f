"""Rates with intervals, and exact paired tests of their differences."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """Hits of every thousand sentences, with the limits of Wilson's interval at 95 %."""

    per_thousand: float
    low: float
    high: float


def wilson(hits: int, judged: int) -> Rate:
    """Returns the rate of `hits` in `judged` sentences with Wilson's score interval (Wilson 1927)."""
    from scipy.stats import binomtest  # takes a second to import

    interval = binomtest(hits, judged).proportion_ci(CONFIDENCE, method="wilson")
    return Rate(1000 * hits / judged, 1000 * float(interval.low), 1000 * float(interval.high))


def mcnemar(mine: Collection[int], theirs: Collection[int]) -> float:
    """Returns the two-sided p-value of McNemar's exact test: is a failure of only one system equally often each's?

    Args:
        mine: the sentences that one system fails.
        theirs: the sentences that the other one fails.
    """
    from scipy.stats import binomtest

    only_mine, only_theirs = len(set(mine) - set(theirs)), len(set(theirs) - set(mine))
    discordant = only_mine + only_theirs
    return float(binomtest(only_mine, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns the p-values adjusted for their number (Holm 1979).

    If each is compared with a level, some difference between equals is found at most as often as the level says.
    """
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
