"""Reads translations made by other means from files with one line per source line."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from nemo_distill.config.errors import DataError
from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.text.lines import LinePolicy, TextFiles, clean_line

NO_SCORE = 0.0


class TranslatedElsewhere:
    """Returns translations by line number.

    Args:
        files: the translation files, together parallel to all source files.
        policy: how to treat invalid lines. A dropped line is an empty translation.
    """

    def __init__(self, files: Sequence[Path], policy: LinePolicy):
        self._files, self._policy = TextFiles(files), policy
        self._rest: Iterator[bytes] = iter(())
        self._next_line = 0  # the next line in `_rest`; 0 if no file is open

    def translate(self, first_line: int, texts: Sequence[str]) -> list[Translation]:
        """Returns the translations of `len(texts)` lines, starting at line number `first_line`.

        Raises:
            DataError: if the files have too few lines.
        """
        if not 0 < self._next_line <= first_line:
            self._rest, self._next_line = iter(self._files), 1
        skipped = first_line - self._next_line
        self._next_line = first_line + len(texts)
        found = list(islice(self._rest, skipped, skipped + len(texts)))
        if len(found) < len(texts):
            names = ", ".join(f"'{path}'" for path in self._files.paths)
            raise DataError(f"{names} hold no translation of source line {first_line + len(found)}")
        return [Translation((Hypothesis(clean_line(raw, self._policy).text, NO_SCORE),)) for raw in found]
