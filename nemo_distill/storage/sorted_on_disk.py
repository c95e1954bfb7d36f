"""Sorts more records than fit into memory, by hashes: in parts, each of which is a file until it is sorted."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from nemo_distill.storage.files import writing

PARTS = 256  # files that are open at a time, one for each first byte of a key


class SortedOnDisk:
    """Records in the order of their field `key`, of which one part in 256 is in memory at a time.

    Args:
        layout: of a record; its first field is `key`, the bytes of a hash, so that all parts are about as large.
        folder: where the records lie until they have been sorted; closing removes them.
    """

    def __init__(self, layout: np.dtype, folder: Path):
        self.layout = layout
        self._files = ExitStack()
        self._files.enter_context(writing(folder))
        parts = (tempfile.TemporaryFile(dir=folder) for _ in range(PARTS))  # noqa: SIM115 (closed by `__exit__`)
        self._parts = [self._files.enter_context(part) for part in parts]

    def add(self, records: np.ndarray) -> None:
        """Takes records (N,) in; many at a time are quicker."""
        first_bytes = np.frombuffer(records.tobytes(), np.uint8)[:: self.layout.itemsize]
        ends = np.cumsum(np.bincount(first_bytes, minlength=PARTS)).tolist()
        records = records[np.argsort(first_bytes, kind="stable")]
        for part, begin, end in zip(self._parts, [0, *ends], ends):
            if end > begin:
                part.write(records[begin:end].tobytes())

    def parts(self) -> Iterator[np.ndarray]:
        """Yields all records, some at a time, in the order of their keys, and equal keys in the order of `add`."""
        for part in self._parts:
            part.seek(0)
            records = np.frombuffer(part.read(), self.layout)
            yield records[np.argsort(records["key"], kind="stable")]

    def repeated(self, field: str) -> np.ndarray:
        """Returns what `field` holds, in ascending order, of each record whose key an earlier one has."""
        found = [part[field][1:][part["key"][1:] == part["key"][:-1]] for part in self.parts()]
        return np.sort(np.concatenate(found))

    def __enter__(self) -> "SortedOnDisk":
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._files.__exit__(*error)
