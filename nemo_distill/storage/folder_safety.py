"""Checks on folders from untrusted sources: links that point elsewhere, and arrays that do not match their headers."""

from pathlib import Path, PurePosixPath

import numpy as np

from nemo_distill.config.errors import DataError


def escapes_folder(name: str) -> bool:
    """True if a file of this name inside a folder could be outside of that folder."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name


def path_inside(folder: Path, name: str) -> Path:
    """Returns the path of a file or folder inside a folder. It need not exist.

    Args:
        folder: the folder, which may itself be a link.
        name: the name, possibly from an untrusted source.

    Raises:
        DataError: if the name, or a link of that name, points outside the folder.
    """
    path = folder / name
    if escapes_folder(name):
        raise DataError(f"'{folder}' is not opened: '{name}' is outside of it")
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"'{path}' is not opened: {error}") from error
    if not resolved.is_relative_to(folder.resolve()):
        raise DataError(f"'{path}' is not opened: it is a link to '{resolved}', outside of the folder")
    return path


def check_links(folder: Path) -> None:
    """Rejects a folder that contains a link to something outside of it.

    Raises:
        DataError: if there is such a link.
    """
    for path in folder.rglob("*"):
        if path.is_symlink():
            path_inside(folder, path.relative_to(folder).as_posix())


def open_array(path: Path) -> np.ndarray:
    """Maps a one-dimensional numpy file into memory, read-only.

    Raises:
        DataError: if the file is not a numpy file, contains pickled objects, or does not match its header in size.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises many types of errors for invalid headers
        raise DataError(f"'{path}' is not a valid array: {error}") from error
    size = path.stat().st_size
    if array.ndim != 1 or array.offset + array.nbytes != size:
        raise DataError(f"'{path}' is not a valid array: its header says {array.shape}, but it has {size:,} bytes")
    return np.asarray(array)
