"""Filters that compare a pair with all others: they are shown every pair, and only then know which to drop.

Their memory hardly grows with the number of pairs: by 8 bytes for each duplicate, and while duplicates are found by a
sixth of a byte for each pair.
"""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from nemo_distill.pseudo_labels.filters import FilterSettings
from nemo_distill.pseudo_labels.judge import Outcome
from nemo_distill.storage.sorted_on_disk import SortedOnDisk

STEPS = 1000  # of a score's unit that are told apart
RECORD = np.dtype([("key", "S8"), ("line", "<u8")])
WAITING = 4096  # pairs that are written at a time


class LowestScores:
    """Drops the pairs with the lowest scores, and of those with equal scores none.

    Args:
        share: of the pairs that it is shown.
    """

    def __init__(self, share: float):
        self.share = share
        self.threshold: float | None = None  # the least score that stays; None until pairs have been seen
        self._counts: Counter[int] = Counter()

    def see(self, score: float) -> None:
        """Takes a pair into account."""
        self._counts[round(score * STEPS)] += 1

    def close(self) -> None:
        """Sets the threshold, when all pairs have been seen."""
        left = int(self.share * self._counts.total())
        for score in sorted(self._counts):
            left -= self._counts[score]
            if left < 0:
                self.threshold = score / STEPS
                return

    def drops(self, score: float) -> bool:
        """Whether a pair with this score is among the lowest."""
        return self.threshold is not None and round(score * STEPS) < round(self.threshold * STEPS)


class Duplicates:
    """Drops pairs that came before.

    Args:
        folder: where it may keep 16 bytes a pair until it is closed.
    """

    def __init__(self, folder: Path):
        self._pairs = SortedOnDisk(RECORD, folder)
        self._waiting: list[tuple[bytes, int]] = []
        self._lines = np.array([], "u8")

    def see(self, line: int, source: str, target: str) -> None:
        """Takes a pair into account; lines grow from call to call."""
        self._waiting.append((hashlib.blake2b(f"{source}\t{target}".encode(), digest_size=8).digest(), line))
        if len(self._waiting) == WAITING:
            self._add()

    def _add(self) -> None:
        self._pairs.add(np.array(self._waiting, RECORD))
        self._waiting.clear()

    def close(self) -> None:
        """Finds the duplicates, when all pairs have been seen."""
        with self._pairs:
            self._add()
            self._lines = self._pairs.repeated("line")

    def drops(self, line: int) -> bool:
        """Whether the pair of this line came before."""
        index = int(np.searchsorted(self._lines, line))
        return index < len(self._lines) and int(self._lines[index]) == line


class Ranking:
    """All filters of this kind that the settings ask for.

    Args:
        filters: which are on.
        folder: where duplicates may be looked for.
    """

    def __init__(self, filters: FilterSettings, folder: Path):
        self.duplicates = Duplicates(folder) if filters.duplicates else None
        self.scores = LowestScores(filters.score_quantile) if filters.score_quantile else None
        self.reverse = LowestScores(filters.reverse_score_quantile) if filters.reverse_score_quantile else None

    def see(self, outcome: Outcome) -> None:
        """Takes a pair into account that no filter of single pairs has dropped."""
        if self.duplicates:
            self.duplicates.see(outcome.line, outcome.source, outcome.target)
        if self.scores:
            self.scores.see(outcome.score)
        if self.reverse and outcome.reverse_score is not None:
            self.reverse.see(outcome.reverse_score)

    def close(self) -> None:
        """Ends the looking; what to drop can be asked then."""
        for part in (self.duplicates, self.scores, self.reverse):
            if part:
                part.close()

    def reason(self, outcome: Outcome) -> str | None:
        """Returns the name of the filter that drops the pair, or None."""
        if self.duplicates and self.duplicates.drops(outcome.line):
            return "duplicates"
        if self.scores and self.scores.drops(outcome.score):
            return "score_quantile"
        if self.reverse and outcome.reverse_score is not None and self.reverse.drops(outcome.reverse_score):
            return "reverse_score_quantile"
        return None

    def thresholds(self) -> dict[str, float | None]:
        """Returns the least scores that stay."""
        named = {"score": self.scores, "reverse_score": self.reverse}
        return {name: part.threshold for name, part in named.items() if part}
