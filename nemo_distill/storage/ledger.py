"""What was made from what: records of settings and fingerprints, by which work that was done before is found again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import write_json
from nemo_distill.storage.records import read_json


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    parts = [[file.relative_to(path).as_posix(), sha256_of(file)] for file in files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def fingerprint(path: Path) -> dict[str, str]:
    """Returns the name and the SHA-256 of a file or folder, which are read once unless the file changes."""
    status = path.stat()
    return {"name": path.name, "sha256": _sha256_then(path, status.st_size, status.st_mtime_ns)}


@cache
def _sha256_then(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Says for each key in which two records differ what it was and what it is."""
    found = []
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += differences(before, now, f"{prefix}{key}.")
        elif before != now:
            found.append(f"{prefix}{key} was {before} and is {now}")
    return found


def earlier_record(path: Path, settings: Mapping[str, Any], overwrite: bool = False) -> dict[str, Any] | None:
    """Returns the record at `path` if the same work was done before; None if it is to be done.

    Args:
        path: a record that holds the `settings` that the work was done with.
        settings: those that it is to be done with.
        overwrite: take no notice of a record of other settings.

    Raises:
        DataError: if the record is of other settings.
    """
    record = read_json(path)
    if record is None:
        return None
    changes = differences(record.get("settings") or {}, json.loads(json.dumps(settings)))
    if changes and not overwrite:
        raise DataError(f"'{path}' is of other settings: {'; '.join(changes)}")
    return None if changes else record


def kept(path: Path, settings: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the record at `path` if it was made with the same settings; else what `make` gives, which is kept there.

    Args:
        path: of the record; its folder need not exist.
        settings: all that the result depends on.
        make: does the work.
    """
    record = earlier_record(path, settings, overwrite=True)
    if record is None:
        record = {"settings": settings, **make()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
    return record
