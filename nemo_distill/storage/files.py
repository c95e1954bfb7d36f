"""Files and folders that are there whole or not at all, and locks."""

import errno
import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import AfterValidator, BeforeValidator

from nemo_distill.config.errors import DataError

LOCK = ".lock"  # in the folder on which one process at a time works
USE_MKL = "CT2_USE_MKL"  # environment variable of CTranslate2: 1 has Intel's library compute on any processor
TEMPORARY = ".tmp"
LONGEST, ADDED = 255, 18  # bytes of a name on Linux, and what the name of a temporary file has beside that of the file
LFS_POINTER = b"version https://git-lfs"
LEFTOVER = re.compile(rf"\.(.+)\.[0-9a-f]{{12}}{re.escape(TEMPORARY)}")  # the group is what `_shortened` returns


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Adds `path` to I/O errors raised inside, because Python's errors do not name the file whose write failed."""
    try:
        yield
    except OSError as error:
        unnamed = error.filename is None and error.errno is not None  # without a number, the message is the library's
        if unnamed or str(error.filename).endswith(TEMPORARY):
            error.filename = str(path)
        raise


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that appears as `path` only after all content is on disk. If writing fails, no file remains."""
    with whole_files([path]) as (stream,):
        yield stream


@contextmanager
def whole_path(path: Path) -> Iterator[Path]:
    """Yields a path beside `path`, where another library writes a file that takes the name `path` in the end.

    Nothing happens in a process that writes no file there, such as all but the first of a training.
    """
    temporary = _temporary(path)
    try:
        with writing(path):
            yield temporary
            if temporary.is_file():
                _sync(temporary)
                temporary.replace(path)
                _sync(path.parent)
    except BaseException:
        with suppress(OSError):  # the error that is told is the first one
            temporary.unlink()
        raise


@contextmanager
def whole_files(paths: Sequence[Path], outdated: Sequence[Path] = ()) -> Iterator[Sequence[BinaryIO]]:
    """Opens files that belong together. They appear under their names only after all of them are on disk.

    Args:
        paths: the files, all in one folder.
        outdated: files to delete first, so that a kill never leaves old and new files side by side.
    """
    temporaries = [_temporary(path) for path in paths]
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
            with suppress(OSError):
                temporary.unlink()
        raise
    _sync(paths[0].parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{_shortened(path.name)}.{uuid.uuid4().hex[:12]}{TEMPORARY}")


def _shortened(name: str) -> str:
    """Returns what the name of a temporary file holds of the name of the file to be; too much if that is too long."""
    encoded = os.fsencode(name)
    return os.fsdecode(encoded[: max(LONGEST, len(encoded)) - ADDED])


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk, where the file system can do this."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not know it for folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yields an empty folder, which becomes `output` in the end, in the place of what was there.

    It lies in the folder `<output>.unfinished`. If anything is raised, `output` stays as it was and nothing else
    remains. After a kill this folder remains, which the next call removes, or, between the old folder and the new,
    `<output>.replaced`, which it puts back. Where `output` is a symbolic link, all of this happens where it points.

    Raises:
        DataError: if another process is writing the folder.
    """
    if output.is_symlink():
        output = output.resolve()
    unfinished, replaced = (output.with_name(f"{output.name}.{state}") for state in ("unfinished", "replaced"))
    with writing(output):
        unfinished.mkdir(parents=True, exist_ok=True)
        with locked(unfinished / LOCK, wait=False) as lock:
            if lock is None:
                raise DataError(f"another process is writing '{output}'; wait for its end, or name another folder")
            shutil.rmtree(made := unfinished / "made", ignore_errors=True)
            if replaced.exists() and not output.exists():
                replaced.rename(output)
            shutil.rmtree(replaced, ignore_errors=True)
            try:
                made.mkdir()
                yield made
                if output.exists():
                    output.rename(replaced)
                made.rename(output)
                shutil.rmtree(replaced, ignore_errors=True)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)


def remove_leftovers(folder: Path, *names: str | re.Pattern[str]) -> None:
    """Deletes the temporary files that killed processes left. Call it only while no other process writes these files.

    Args:
        names: the files that were to be written, by name or pattern; none: all, where no other job writes files.
    """
    patterns = [name if isinstance(name, re.Pattern) else re.escape(_shortened(name)) for name in names] or [".+"]
    for path in folder.glob(f".*{TEMPORARY}"):
        found = LEFTOVER.fullmatch(path.name)
        if found and any(re.fullmatch(pattern, found[1]) for pattern in patterns):
            path.unlink(missing_ok=True)


def file_problems(path: Path, overwrite: bool) -> list[str]:
    """Returns what keeps a file from being written; the words go on with its name.

    Args:
        overwrite: whether a file that exists may be replaced.
    """
    if not path.parent.is_dir():
        return [f"but there is no folder '{path.parent}'"]
    if path.is_dir():
        return ["which is a folder; name a file"]
    if path.exists() and not path.is_file():
        return ["which is a pipe or a device; name a file"]
    return ["which exists; set overwrite=true, or name another"] if path.exists() and not overwrite else []


def write_text(path: Path, text: str) -> None:
    """Writes `text` in UTF-8, atomically."""
    with whole_file(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes `record` as JSON, atomically, with a newline at the end."""
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[int | None]:
    """Acquires an exclusive lock between processes and yields its file descriptor.

    The lock is held until every process that has the descriptor open ends. A killed process therefore releases it. A
    child process started with `pass_fds` keeps it even if its parent is killed.

    Args:
        path: the lock file; its folder must exist.
        wait: wait until the lock is free. If False and another process holds the lock, yields None.

    Raises:
        DataError: if `path` is a symbolic link, which could point to any file, or if its file system has no locks.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise DataError(f"'{path}' cannot be locked: it is a symbolic link") from error
    with open(descriptor, "rb+"):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        except OSError as error:  # some network file systems, such as Lustre without the option flock
            raise DataError(
                f"'{path}' cannot be locked: {error.strerror}; choose a folder on another file system"
            ) from error
        else:
            yield descriptor


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Allows one process at a time to work on a folder; see `locked`."""
    with locked(folder / LOCK):
        yield


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Returns the versions of the packages that are installed. CTranslate2 has other results with Intel's library."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if "ctranslate2" in found and os.environ.get(USE_MKL) == "1":
        found["ctranslate2"] += f" ({USE_MKL}=1)"
    return found


def numeric_order(path: str | Path) -> list[str | int]:
    """Returns a sort key that puts `part.2` before `part.10`."""
    parts = re.split(r"([0-9]+)", str(path))  # every second part is a number
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def user_path(path: str | Path) -> Path:
    """Expands `~` in a path given by the user. An unknown user name is left as it is."""
    return Path(os.path.expanduser(str(path)))


def _no_empty_text(value: Any) -> Any:
    """Refuses what a shell makes of a variable without a value, and Python of an empty path, the working folder."""
    if value == "":
        raise ValueError("must be a path that is not empty")
    return value


UserPath = Annotated[Path, BeforeValidator(_no_empty_text), AfterValidator(user_path)]  # of a configuration


def missing_content(path: Path) -> str | None:
    """Returns a sentence without its full stop if a file is a pointer that Git LFS has left in place of the file."""
    try:
        with path.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) != LFS_POINTER:
                return None
    except OSError:  # told by who reads it
        return None
    return f"'{path}' is a pointer of Git LFS and not the file itself; fetch it, for example with 'git lfs pull'"
