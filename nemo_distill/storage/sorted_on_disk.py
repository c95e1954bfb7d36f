"""Sorts records by hash if they do not fit into memory. They are split into parts on disk, sorted one at a time."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from nemo_distill.storage.files import writing

PARTS = 256  # number of temporary files, one for each first byte of the key


class SortedOnDisk:
    """Sorts records by their field `key`. At most one of 256 parts is in memory at a time.

    Args:
        layout: the record type. Its first field is `key`, the bytes of a hash, so that all parts have similar sizes.
        folder: where the temporary files are. They are removed on exit.
    """

    def __init__(self, layout: np.dtype, folder: Path):
        self.layout = layout
        self._files = ExitStack()
        self._files.enter_context(writing(folder))
        parts = (tempfile.TemporaryFile(dir=folder) for _ in range(PARTS))  # noqa: SIM115 (closed by `__exit__`)
        self._parts = [self._files.enter_context(part) for part in parts]

    def add(self, records: np.ndarray) -> None:
        """Adds records (N,). Adding many at a time is faster."""
        first_bytes = np.frombuffer(records.tobytes(), np.uint8)[:: self.layout.itemsize]
        ends = np.cumsum(np.bincount(first_bytes, minlength=PARTS)).tolist()
        records = records[np.argsort(first_bytes, kind="stable")]
        for part, begin, end in zip(self._parts, [0, *ends], ends):
            if end > begin:
                part.write(records[begin:end].tobytes())

    def parts(self) -> Iterator[np.ndarray]:
        """Yields all records in parts, sorted by key. Records with equal keys stay in the order of `add`."""
        for part in self._parts:
            part.seek(0)
            records = np.frombuffer(part.read(), self.layout)
            yield records[np.argsort(records["key"], kind="stable")]

    def repeated(self, field: str) -> np.ndarray:
        """Returns the sorted values of `field` in all records whose key also occurs in an earlier record."""
        found = [part[field][1:][part["key"][1:] == part["key"][:-1]] for part in self.parts()]
        return np.sort(np.concatenate(found))

    def __enter__(self) -> "SortedOnDisk":
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._files.__exit__(*error)
