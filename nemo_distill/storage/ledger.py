"""Records what each result was made from, so that no work is repeated or confused with other work.

Labels, teacher caches, mixes, evaluations, comparisons and sweeps write a JSON record next to their results. It
contains the `settings` that the result depends on, including the SHA-256 of input files. If the settings are the same,
the existing result is used. If they differ, an error lists the differences.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import write_json
from nemo_distill.storage.records import read_json


class Work:
    """A result and its records.

    Args:
        finished: the record written at the end; its folder need not exist.
        settings: everything that the result depends on, as JSON values.
        begun: the record written at the start; None if the result is written atomically.
        shape: the type of the finished record, for `read_json`.
    """

    def __init__(
        self,
        finished: Path,
        settings: Mapping[str, Any],
        begun: Path | None = None,
        shape: type = dict[str, Any],
    ):
        self.finished_path, self.begun_path = finished, begun
        self.settings = json.loads(json.dumps(settings))
        self.shape = shape

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def finished(self) -> dict[str, Any] | None:
        """Returns the finished record, with any settings; None if there is none."""
        return read_json(self.finished_path, self.shape)

    def changes(self) -> list[str]:
        """Returns how the settings differ from those of earlier work with the same records, if there is any."""
        records = [read_json(self.begun_path) if self.begun_path else None, self.finished()]
        found = [differences(record.get("settings") or {}, self.settings) for record in records if record is not None]
        return list(dict.fromkeys(change for changes in found for change in changes))

    def done(self, overwrite: bool = False) -> dict[str, Any] | None:
        """Returns the finished record if this work is already done, otherwise None.

        Args:
            overwrite: ignore work with other settings instead of raising an error.

        Raises:
            DataError: if there is work with other settings.
        """
        changes = self.changes()
        if changes and not overwrite:
            path = self.finished_path if self.finished_path.exists() else self.begun_path
            raise DataError(f"'{path}' was made with other settings: {'; '.join(changes)}")
        return None if changes else self.finished()

    def begin(self, **facts: Any) -> None:
        """Writes the record at the start of the work.

        Args:
            facts: what the record contains besides the settings.
        """
        if self.begun_path is None:
            raise ValueError("begin() needs the path of a record that begins the work")
        self.begun_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.begun_path, {"settings": self.settings, **facts})

    def finish(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the record at the end of the work, and returns it.

        Args:
            result: what the record contains besides the settings.
        """
        record = {"settings": self.settings, **result}
        self.finished_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.finished_path, record)
        return record

    def kept(self, make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Returns the finished record. If it is missing or has different settings, calls `make` for a new one."""
        return self.done(overwrite=True) or self.finish(make())


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns the old and new value of each key that differs between two records."""
    found = []
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += differences(before, now, f"{prefix}{key}.")
        elif before != now:
            found.append(f"{prefix}{key} was {before} and is {now}")
    return found


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    parts = [[file.relative_to(path).as_posix(), sha256_of(file)] for file in files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def fingerprint(path: Path) -> dict[str, str]:
    """Returns the name and SHA-256 of a file or folder. It is read only once, unless it changes."""
    status = path.stat()
    return {"name": path.name, "sha256": _sha256_then(path, status.st_size, status.st_mtime_ns)}


@cache
def _sha256_then(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)
