"""Filters that compare a pair with all others. They must see all pairs before they can drop any."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

from nemo_distill.pseudo_labels.filters import FilterSettings
from nemo_distill.pseudo_labels.judge import Outcome
from nemo_distill.text.duplicates import Duplicates

STEPS = 1000  # resolution: scores are rounded to 1/1000
MOST_LABELS = 1 << 16  # of a line
SCORES = ("score", "reverse_score", "quality", "consensus")  # of an outcome, each with a filter `..._quantile`


class LowestScores:
    """Drops the pairs with the lowest scores. Pairs with the same score as the lowest kept pair are kept."""

    def __init__(self, share: float):
        self.share = share
        self.threshold: float | None = None  # lowest score that is kept; None until `close`, and if there are no pairs
        self._counts: Counter[int] = Counter()

    def see(self, score: float) -> None:
        """Adds a pair."""
        self._counts[round(score * STEPS)] += 1

    def close(self) -> None:
        """Sets the threshold, after all pairs were added."""
        left = int(Fraction(str(self.share)) * self._counts.total())  # in floats, 0.29 * 100 is less than 29
        for score in sorted(self._counts):
            left -= self._counts[score]
            if left < 0:
                self.threshold = score / STEPS
                return

    def drops(self, score: float) -> bool:
        """Returns whether a pair with this score is dropped."""
        return self.threshold is not None and round(score * STEPS) < round(self.threshold * STEPS)


class CorpusFilters:
    """All filters of this module that are switched on."""

    def __init__(self, filters: FilterSettings, folder: Path):
        self.duplicates = Duplicates(folder) if filters.duplicates else None
        shares = {name: getattr(filters, f"{name}_quantile") for name in SCORES}
        self.lowest = {name: LowestScores(share) for name, share in shares.items() if share}

    def see(self, outcome: Outcome) -> None:
        """Adds a pair that the filters for single pairs have kept."""
        if self.duplicates:
            self.duplicates.see(_place(outcome), outcome.source, outcome.target)
        for name, part in self.lowest.items():
            if (score := getattr(outcome, name)) is not None:
                part.see(score)

    def close(self) -> None:
        """Computes what to drop, after all pairs were added. Call it before `reason`."""
        if self.duplicates:
            self.duplicates.close()
        for part in self.lowest.values():
            part.close()

    def reason(self, outcome: Outcome) -> str | None:
        """Returns the name of the filter that drops the pair, or None."""
        if self.duplicates and self.duplicates.drops(_place(outcome)):
            return "duplicates"
        for name, part in self.lowest.items():
            score = getattr(outcome, name)
            if score is not None and part.drops(score):
                return f"{name}_quantile"
        return None

    def thresholds(self) -> dict[str, float | None]:
        """Returns the lowest scores that are kept."""
        return {name: part.threshold for name, part in self.lowest.items()}


def _place(outcome: Outcome) -> int:
    """Returns a number that grows with the line and, within a line, with the label."""
    return outcome.line * MOST_LABELS + outcome.rank
