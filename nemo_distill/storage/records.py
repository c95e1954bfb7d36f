"""Reads and validates JSON records, which may be damaged or come from an untrusted source."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from nemo_distill.config.errors import DataError

Record = TypeVar("Record")
MAX_BYTES = 1 << 26
MAX_SHOWN = 60  # characters of a wrong value in a message
# `__pydantic_config__` of dataclasses whose JSON must not contain other keys.
CLOSED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
# `__pydantic_config__` of dictionaries whose JSON may contain other keys, which are kept, also in dictionaries inside.
OPEN = ConfigDict(extra="allow")
_adapter: Callable[[Any], TypeAdapter] = cache(TypeAdapter)


@with_config(OPEN)
class FileEntry(TypedDict):
    """Name and checksum of a file in a record."""

    name: str
    sha256: str


@overload
def read_json(path: Path) -> dict[str, Any] | None: ...
@overload
def read_json(path: Path, shape: type[Record]) -> Record | None: ...
def read_json(path: Path, shape: Any = dict[str, Any]) -> Any:
    """Returns the record in a JSON file, or None if the file does not exist.

    Args:
        shape: the expected type, a `TypedDict` or a dataclass; by default a dictionary with any keys.

    Raises:
        DataError: if the file contains anything else.
    """
    content = read_small(path)
    return None if content is None else parse_json(content, shape, f"'{path}'")


def read_small(path: Path) -> bytes | None:
    """Returns the content of a file of at most 64 MiB; None if the file does not exist.

    Raises:
        DataError: if it is larger or cannot be read.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"'{path}' cannot be read: it has more than {MAX_BYTES:,} bytes")
    return content


def parse_json(content: bytes, shape: type[Record], where: str) -> Record:
    """Parses and validates JSON.

    Args:
        where: the origin of the content, for the message.

    Raises:
        DataError: if the content is not JSON, is nested too deeply, or does not have the expected type.
    """
    try:
        return _adapter(shape).validate_json(content, strict=True)
    except ValidationError as error:
        problems = [_sentence(problem) for problem in error.errors(include_url=False)]
        raise DataError(f"{where} cannot be read: {problems[0]}") from error


def _sentence(problem: Mapping[str, Any]) -> str:
    said = problem["msg"][0].lower() + problem["msg"][1:]
    if not problem["loc"]:
        return said
    place = ".".join(map(str, problem["loc"]))
    value = "" if problem["type"] == "missing" else f"={str(problem['input'])[:MAX_SHOWN]}"
    return f"{place}{value}: {said}"
