"""Records in JSON, read as what a stranger may have written or a disk may have spoilt: of a given shape or refused."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from nemo_distill.config.errors import DataError

Record = TypeVar("Record")
MOST_BYTES = 1 << 26
MOST_SHOWN = 60  # characters of a wrong value
# Of a dataclass whose JSON holds its fields and nothing else (`__pydantic_config__`).
CLOSED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
# Of a dictionary whose JSON may hold more, which whoever reads it passes on.
OPEN = ConfigDict(extra="allow")
_adapter: Callable[[Any], TypeAdapter] = cache(TypeAdapter)


@with_config(OPEN)
class FileEntry(TypedDict):
    """What a record says of a file."""

    name: str
    sha256: str


@overload
def read_json(path: Path) -> dict[str, Any] | None: ...
@overload
def read_json(path: Path, shape: type[Record]) -> Record | None: ...
def read_json(path: Path, shape: Any = dict[str, Any]) -> Any:
    """Returns the record in a file, or None if there is no such file.

    Args:
        path: of JSON.
        shape: what must be in it: a `TypedDict`, or a dataclass; by default any keys.

    Raises:
        DataError: if the file holds anything else.
    """
    content = read_small(path)
    return None if content is None else parse_json(content, shape, f"'{path}'")


def read_small(path: Path) -> bytes | None:
    """Returns what is in a file of no more than 64 MiB; None if there is no such file.

    Raises:
        DataError: if it is larger, or cannot be read.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise DataError(f"'{path}' cannot be read: it has more than {MOST_BYTES:,} bytes")
    return content


def parse_json(content: bytes, shape: type[Record], where: str) -> Record:
    """Returns what JSON holds.

    Args:
        content: of any bytes.
        shape: what it must be, as pydantic takes it.
        where: what it was read from, for the sentence.

    Raises:
        DataError: if it is no JSON, is nested deeply, or is of another shape.
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
    value = "" if problem["type"] == "missing" else f"={str(problem['input'])[:MOST_SHOWN]}"
    return f"{place}{value}: {said}"
