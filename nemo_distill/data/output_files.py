"""Files that are there whole or not at all, and the record that says how they were made."""

import errno
import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

from nemo_distill.data.records import read_json, sealed
from nemo_distill.data.text_lines import DataError

TEMPORARY = ".tmp"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Has the errors of the disk name `path`: Python's do not say where a write failed."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(TEMPORARY):
            error.filename = str(path)
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes the name `path` when all of it is on the disk, and leaves nothing if that fails."""
    with whole_files([path]) as (stream,):
        yield stream


@contextmanager
def whole_files(paths: Sequence[Path], outdated: Sequence[Path] = ()) -> Iterator[list[BinaryIO]]:
    """Opens files that belong together, and take their names when all of them are on the disk.

    Args:
        paths: of one folder.
        outdated: what is deleted first of all when they do, so that a kill leaves no old file beside a new one.
    """
    temporaries = [path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}") for path in paths]
    try:
        with writing(paths[0]), ExitStack() as stack:
            streams = [stack.enter_context(temporary.open("xb")) for temporary in temporaries]
            yield streams
            for stream in streams:
                stream.flush()
                os.fsync(stream.fileno())
        for path in outdated:
            path.unlink(missing_ok=True)
        for temporary, path in zip(temporaries, paths):
            temporary.replace(path)
    except BaseException:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(paths[0].parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Deletes what killed processes left of the files whose names match `name`."""
    for path in folder.glob(f".{name}.*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes `record`, sealed, as a whole file that ends in a line end."""
    with whole_file(path) as stream:
        stream.write(json.dumps(sealed(record), indent=2, ensure_ascii=False).encode() + b"\n")


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Lets one process at a time into a section of the work on a folder; a killed one leaves it.

    Raises:
        DataError: if a stranger has put a link there, whose target would be made or opened.
    """
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise  # of the disk
        raise DataError(f"'{path}' cannot be locked: it is a link") from error
    with open(descriptor, "rb+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


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


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns the versions of those of the packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


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
