"""Reads numpy arrays of untrusted files without numpy's own unpickling, which takes pointers from a file.

With the classes of numpy, an array of objects is restored from the addresses that the file names. Megatron, which NeMo
imports, allows these classes in every file that torch loads.
"""

import io
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

NUMBERS = re.compile(r"b1|[iu][1248]|f[248]")  # numpy's names of boolean, integer and float types


class SavedType:
    """What is read in place of a `numpy.dtype`."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not (isinstance(name, str) and NUMBERS.fullmatch(name)):
            raise UnpicklingError(f"an array of type {name}")
        self.numpy = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        _, order, *fields = state
        if order not in ("<", ">", "|", "=") or any(field is not None for field in fields[:3]):
            raise UnpicklingError("an array with fields")
        self.numpy = self.numpy.newbyteorder(order)


class SavedArray:
    """What is read in place of a `numpy.ndarray`."""

    def __init__(self, *arguments: Any) -> None:
        if arguments:  # numpy itself writes arrays otherwise
            raise UnpicklingError("an array that names its memory")
        self.numpy = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, is_fortran, content = state
        if type(kind) is not SavedType or type(content) is not bytes:
            raise UnpicklingError("an array of objects")
        flat = np.frombuffer(content, kind.numpy)
        self.numpy = flat.reshape(shape, order="F" if is_fortran else "C").copy(order="A")


def _new_array(*_: Any) -> SavedArray:
    return SavedArray()


ARRAYS = (
    *((SavedArray, "numpy.ndarray"), (SavedType, "numpy.dtype")),
    (_new_array, "numpy._core.multiarray._reconstruct"),  # as numpy 2 writes it
    (_new_array, "numpy.core.multiarray._reconstruct"),
)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numbers, texts, containers and arrays of numbers, and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        for stand_in, known in ARRAYS:
            if known == f"{module}.{name}":
                return stand_in
        raise UnpicklingError(f"'{module}.{name}'")


def unpickled_arrays(content: bytes) -> Any:
    """Returns what a pickle of arrays holds.

    Raises:
        UnpicklingError: if it holds anything that is no number, text, container or array of numbers.
    """
    return with_arrays(_ArrayUnpickler(io.BytesIO(content)).load())


@contextmanager
def only_allowed(names: Sequence[Callable | tuple[Callable, str]] = ()) -> Iterator[None]:
    """Within this context, `torch.load` with `weights_only=True` allows no names but torch's own and these."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*names])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def with_arrays(content: Any, known: dict[int, Any] | None = None) -> Any:
    """Returns `content` with numpy's arrays in place of those that were read, in dicts, lists and tuples too.

    Args:
        content: what `torch.load` returned; its dicts and lists are changed in place.
        known: results by the `id` of what they were made from, so that each part is visited once.
    """
    known = {} if known is None else known
    if id(content) in known:
        return known[id(content)]
    known[id(content)] = content
    if isinstance(content, SavedArray):
        known[id(content)] = content.numpy
    elif isinstance(content, dict):
        for key in content:
            content[key] = with_arrays(content[key], known)
    elif type(content) is list:
        content[:] = [with_arrays(part, known) for part in content]
    elif type(content) is tuple:
        known[id(content)] = tuple(with_arrays(part, known) for part in content)
    return known[id(content)]
