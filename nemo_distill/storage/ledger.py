"""Records what each result was made from, so that no work is repeated or confused with other work.

Labels, teacher caches, mixes, evaluations, comparisons and sweeps write a JSON record next to their results. It
contains the `settings` that the result depends on, and the SHA-256 of input files, among the settings or as `inputs`.
If all are the same, the existing result is used. If they differ, an error lists the differences.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import write_json
from nemo_distill.storage.records import OPEN, read_json


@with_config(OPEN)
class Described(TypedDict, total=False):
    """What work was done from."""

    settings: dict[str, Any] | None
    inputs: dict[str, str]


class Work:
    """A result and its records.

    Args:
        finished: the record written at the end; its folder need not exist.
        settings: everything that the result depends on, as JSON values.
        begun: the record written at the start; None if the result is written atomically.
        shape: the type of the finished record, for `read_json`.
        read_inputs: returns the SHA-256 of each input file. Called when the inputs are first compared or recorded.
            Inputs are compared if both records have them: a file may be missing then or now, for instance because
            other work makes it.
    """

    def __init__(
        self,
        finished: Path,
        settings: Mapping[str, Any],
        begun: Path | None = None,
        shape: type = dict[str, Any],
        read_inputs: Callable[[], Mapping[str, str]] = dict,
    ):
        self.finished_path, self.begun_path = finished, begun
        self.settings = json.loads(json.dumps(settings))
        self.shape, self._read_inputs = shape, read_inputs

    @cached_property
    def inputs(self) -> Mapping[str, str]:
        """The SHA-256 of each input file, as it was when this was first asked for."""
        return self._read_inputs()

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that identify the settings."""
        return digest_of(self.settings)

    def finished(self) -> dict[str, Any] | None:
        """Returns the finished record, with any settings; None if there is none."""
        return read_json(self.finished_path, self.shape)

    def changes(self) -> list[str]:
        """Returns how settings and inputs differ from those of earlier work with the same records, if there is any."""
        return [*self.changed_settings(), *self.changed_inputs()]

    def changed_settings(self) -> list[str]:
        found = [differences(record.get("settings") or {}, self.settings) for record in self._records()]
        return list(dict.fromkeys(change for changes in found for change in changes))

    def changed_inputs(self) -> list[str]:
        earlier = [inputs for record in self._records() if (inputs := record.get("inputs"))]
        return list(dict.fromkeys(change for inputs in earlier for change in changed_files(inputs, self.inputs)))

    def _records(self) -> list["Described"]:
        paths = [path for path in (self.begun_path, self.finished_path) if path]
        return [record for path in paths if (record := read_json(path, Described)) is not None]

    def done(self, overwrite: bool = False, files: Sequence[Path] = ()) -> dict[str, Any] | None:
        """Returns the finished record if this work is already done, otherwise None.

        Args:
            overwrite: ignore work with other settings instead of raising an error.
            files: what the work has written; it is not done if one of them is missing.

        Raises:
            DataError: if there is work with other settings.
        """
        changes = self.changes()
        if changes and not overwrite:
            path = self.finished_path if self.finished_path.exists() else self.begun_path
            raise DataError(f"'{path}' was made with other settings: {'; '.join(changes)}")
        return None if changes or not all(path.is_file() for path in files) else self.finished()

    def begin(self, **facts: Any) -> None:
        """Writes the record at the start of the work.

        Args:
            facts: what the record contains besides settings and inputs.
        """
        if self.begun_path is None:
            raise ValueError("begin() needs the path of a record that begins the work")
        self.begun_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.begun_path, {**self._described(), **facts})

    def finish(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the record at the end of the work, and returns it.

        Args:
            result: what the record contains besides settings and inputs.
        """
        record = {**self._described(), **result}
        self.finished_path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.finished_path, record)
        return record

    def _described(self) -> dict[str, Any]:
        return {"settings": self.settings, **({"inputs": dict(self.inputs)} if self.inputs else {})}

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


def digest_of(value: Mapping[str, Any]) -> str:
    """Returns 16 hexadecimal digits that identify JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def changed_files(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Returns which files, by their names and SHA-256 in two records, have changed, as far as both have them."""
    return [f"'{name}' has changed since" for name, sha256 in old.items() if new.get(name, sha256) != sha256]


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, or of the names and contents of all files in a folder, but hidden ones.

    Those are not the folder's content: git and the tools of Hugging Face rewrite theirs.
    """
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and not is_hidden(file.relative_to(path)))
    parts = [[file.relative_to(path).as_posix(), sha256_of(file)] for file in files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def is_hidden(path: PurePath) -> bool:
    """True if a part of a path begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def written_files(paths: Sequence[Path], streams: Sequence[BinaryIO]) -> list[dict[str, str]]:
    """Returns the names that files are about to get, with their SHA-256.

    Hashing takes minutes. Before the files have their names, an interruption leaves none of them.
    """
    for stream in streams:
        stream.flush()
    return [{"name": path.name, "sha256": sha256_of(Path(stream.name))} for path, stream in zip(paths, streams)]


def fingerprint(path: Path) -> dict[str, str]:
    """Returns the name and SHA-256 of a file or folder. It is read only once, unless it changes."""
    status = path.stat()
    return {"name": path.name, "sha256": _sha256_then(path, status.st_size, status.st_mtime_ns)}


@cache
def _sha256_then(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)
