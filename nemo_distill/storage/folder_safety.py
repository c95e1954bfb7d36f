"""What a stranger's folder may not hold: files that lie elsewhere, and arrays that are not what their headers say."""

from pathlib import Path, PurePosixPath

import numpy as np

from nemo_distill.config.errors import DataError


def leads_out(name: str) -> bool:
    """True if a file of this name, put into a folder, could lie outside of it."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name


def inside(folder: Path, name: str) -> Path:
    """Returns the path of a file, or folder, that belongs into a folder, whether it is there or not.

    Args:
        folder: may itself be a link.
        name: as something that a stranger may have written has it.

    Raises:
        DataError: if the name, or a link of that name, leads out of the folder.
    """
    path = folder / name
    if leads_out(name):
        raise DataError(f"'{folder}' is not opened: '{name}' would lie outside of it")
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"'{path}' is not opened: {error}") from error
    if not resolved.is_relative_to(folder.resolve()):
        raise DataError(f"'{path}' is not opened: it is a link to '{resolved}', outside of the folder")
    return path


def check_links(folder: Path) -> None:
    """Refuses a folder in which anything is a link to what lies outside of it.

    Raises:
        DataError: in one sentence.
    """
    for path in folder.rglob("*"):
        if path.is_symlink():
            inside(folder, path.relative_to(folder).as_posix())


def open_array(path: Path) -> np.ndarray:
    """Maps a numpy file of one dimension into memory, to be read.

    Raises:
        DataError: if the file is no such file, holds pickled objects, or is of another size than its header says.
    """
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # whatever numpy stumbles over in a header that is none
        raise DataError(f"'{path}' is no array: {error}") from error
    size = path.stat().st_size
    if array.ndim != 1 or array.offset + array.nbytes != size:
        raise DataError(f"'{path}' is no array: its header tells of {array.shape} records, and it has {size:,} bytes")
    return np.asarray(array)
