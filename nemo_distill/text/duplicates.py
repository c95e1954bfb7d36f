"""Finds repeated pairs in text that does not fit into memory."""

import hashlib
from pathlib import Path

import numpy as np

from nemo_distill.storage.sorted_on_disk import SortedOnDisk

RECORD = np.dtype([("key", "S8"), ("line", "<u8")])
WAITING = 4096  # number of pairs added at a time


class Duplicates:
    """Drops repetitions of earlier pairs.

    It must see all pairs before it can drop any. Its memory use is small: 8 bytes per duplicate, and during the search
    for duplicates 1/6 byte per pair.

    Args:
        folder: for temporary files, 16 bytes per pair until `close`.
    """

    def __init__(self, folder: Path):
        self._pairs = SortedOnDisk(RECORD, folder)
        self._waiting: list[tuple[bytes, int]] = []
        self._lines = np.array([], "u8")

    def see(self, line: int, source: str, target: str) -> None:
        """Adds a pair. The line numbers must increase."""
        self._waiting.append((hashlib.blake2b(f"{source}\t{target}".encode(), digest_size=8).digest(), line))
        if len(self._waiting) == WAITING:
            self._add()

    def _add(self) -> None:
        self._pairs.add(np.array(self._waiting, RECORD))
        self._waiting.clear()

    def close(self) -> None:
        """Finds the duplicates, after all pairs were added."""
        with self._pairs:
            self._add()
            self._lines = self._pairs.repeated("line")

    def drops(self, line: int) -> bool:
        """Returns whether the pair of this line repeats an earlier one."""
        index = int(np.searchsorted(self._lines, line))
        return index < len(self._lines) and int(self._lines[index]) == line
