r"""Reads lines of text files, plain or compressed, and handles invalid lines.

Only `\n` ends a line. Python's text mode also splits at `\r`, and `splitlines` at U+2028 and six other characters. One
such character in one language would shift all following lines against the other language.
"""

import bz2
import errno
import gzip
import hashlib
import lzma
import math
import os
import re
import unicodedata
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob, has_magic
from io import BufferedIOBase
from itertools import islice, zip_longest
from pathlib import Path
from random import Random
from typing import BinaryIO, Literal, TypeVar

import regex
from pydantic import Field

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import section
from nemo_distill.progress import shown_progress
from nemo_distill.storage.files import numeric_order, user_path

Item = TypeVar("Item")
Result = TypeVar("Result")
EMPTY, INVALID_UTF8, CONTROL_CHARACTERS, OVER_LONG = ODDITIES = (
    "empty",
    "invalid_utf8",
    "control_characters",
    "over_long",
)
MAX_BYTES = 1 << 26
PROGRESS_EVERY = 1 << 14  # lines
# Control characters, U+2028, U+2029 and the byte order mark. Those that separate words become a space.
_PARTING = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
# All but spaces, control and format characters such as U+200B and U+FEFF, and the empty Braille cell.
_VISIBLE = regex.compile(r"[^\p{Z}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]")
_NO_WORD = regex.compile(r"[^\p{L}\p{M}\p{N}]+")
# Characters that `splitlines` or other programs treat as line ends, or that do not belong in text.
MISLEADING = {
    "\0": "NUL",
    "\v": "vertical tab",
    "\f": "form feed",
    "\r": "carriage return",
    "\x1c": "file separator",
    "\x1d": "group separator",
    "\x1e": "record separator",
    "\x85": "next line",
    "\u2028": "line separator",
    "\u2029": "paragraph separator",
    "\ufeff": "byte order mark",
}
_CHUNK = 1 << 20
# How a compressed file begins, and what unpacks it.
PACKED: dict[bytes, Callable[[BinaryIO], BufferedIOBase]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
}


@section
class LinePolicy:
    """How to treat invalid lines. Empty and over-long lines are never translated."""

    max_characters: int = Field(default=5000, ge=1)
    """Longer lines are over-long."""
    invalid_utf8: Literal["skip", "replace"] = "skip"
    """For lines that are not UTF-8. `skip` drops them; `replace` puts U+FFFD for each invalid part."""
    control_characters: Literal["skip", "clean"] = "clean"
    """For lines with control characters. `skip` drops them; `clean` turns tabs and line separators into spaces and
    deletes other control characters."""


@dataclass(frozen=True)
class Line:
    """A line after cleaning.

    Args:
        text: the text, or "" if the line is dropped.
        oddity: the problem of the line, one of `ODDITIES`; None for a valid line.
    """

    text: str
    oddity: str | None = None


def clean_line(raw: bytes, policy: LinePolicy) -> Line:
    """Applies `policy` to a line, given without its line end."""
    try:
        text, oddity = raw.decode("utf-8"), None
    except UnicodeDecodeError:
        if policy.invalid_utf8 == "skip":
            return Line("", INVALID_UTF8)
        text, oddity = raw.decode("utf-8", "replace"), INVALID_UTF8
    cleaned = clean_text(text)
    if is_blank(cleaned):
        return Line("", EMPTY)
    if len(cleaned) > policy.max_characters:
        return Line("", OVER_LONG)
    if cleaned != text:
        oddity = oddity or CONTROL_CHARACTERS
        if policy.control_characters == "skip":
            return Line("", CONTROL_CHARACTERS)
    return Line(cleaned, oddity)


def clean_pair(raw: tuple[bytes, bytes], policy: LinePolicy, left_out: Counter[str]) -> tuple[str, str] | None:
    """Returns the text of both sides, or None if one of them is dropped, which is counted by side and reason."""
    source, target = (clean_line(line, policy) for line in raw)
    if source.text and target.text:
        return source.text, target.text
    side, line = ("target", target) if source.text else ("source", source)
    left_out[f"{side}_{line.oddity}"] += 1
    return None


def is_blank(text: str) -> bool:
    """True if a line shows nothing: it is empty, or has only spaces and invisible characters such as U+200B."""
    return _VISIBLE.search(text) is None


def blank_lines(path: Path) -> list[int]:
    """Returns the numbers, from 0, of the lines of a file that show nothing; see `is_blank`."""
    lines = (raw.decode("utf-8", "replace") for raw in TextFiles([path]))
    return [number for number, line in enumerate(lines) if is_blank(line)]


def clean_text(text: str) -> str:
    """Returns `text` without control characters, so that it stays one line and one column in any file."""
    if not _CONTROL.search(text):
        return text
    return _CONTROL.sub(lambda match: " " if match[0] in _PARTING else "", text).strip()


def normalized(text: str) -> str:
    """Returns the letters, marks and digits of a text without case, or all of the text if it has none."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NO_WORD.sub("", folded) or folded.strip()


def is_utf8(raw: bytes) -> bool:
    """True if a line is valid UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def decoded(raw: bytes) -> str:
    """Returns a line as text without control characters. Invalid UTF-8 becomes U+FFFD."""
    return clean_text(raw.decode("utf-8", "replace"))


def finite_number(raw: bytes) -> float | None:
    """Returns the number that a line or a part of it consists of; None if it is no number, infinite or NaN."""
    try:
        value = float(raw)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def line_hash(raw: bytes) -> str:
    """Returns 16 hexadecimal digits that identify a line, given without its line end."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


class TextFiles:
    """Iterates over the lines of several files, as bytes without line ends.

    Args:
        paths: plain files, or files packed by gzip, bzip2 or xz, detected by their first bytes.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths
        self.size = sum(path.stat().st_size for path in paths)
        self._passed = 0
        self._file: BinaryIO | None = None

    @property
    def position(self) -> int:
        """Number of bytes read, out of `size`. Of packed files, these are packed bytes."""
        return self._passed + (self._file.tell() if self._file else 0)

    def __iter__(self) -> Iterator[bytes]:
        self._passed = 0
        for path in self.paths:
            with path.open("rb") as self._file:
                yield from stream_lines(unpacked(self._file), path)
                self._passed, self._file = self._passed + self._file.tell(), None


def lines_with_progress(path: Path, label: str) -> Iterator[bytes]:
    """Yields the lines of a file, and shows how much of it has been read.

    Args:
        label: what is shown before the progress.
    """
    text, number = TextFiles([path]), 0
    with shown_progress(label, text.size) as on_progress:
        for number, raw in enumerate(text, start=1):
            yield raw
            if number % PROGRESS_EVERY == 0:
                on_progress(text.position, PROGRESS_EVERY)
        on_progress(text.size, number % PROGRESS_EVERY)


def unpacker(file: BinaryIO) -> Callable[[BinaryIO], BufferedIOBase] | None:
    """Returns what unpacks a file that has just been opened; None for a plain file."""
    start = file.peek(6)  # type: ignore[attr-defined]
    return next((unpack for begin, unpack in PACKED.items() if start.startswith(begin)), None)


def unpacked(file: BinaryIO) -> BufferedIOBase:
    """Returns a stream of what a file that has just been opened holds."""
    unpack = unpacker(file)
    return unpack(file) if unpack else file  # type: ignore[return-value]


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yields `size` items at a time, and what is left."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def map_ahead(
    pool: Executor, function: Callable[[Item], Result], items: Iterator[Item], ahead: int
) -> Iterator[Result]:
    """Like `pool.map`, but with at most `ahead` items that have been read and not been yielded."""
    waiting: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(items, ahead))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(function, item) for item in islice(items, 1))


def counted_sample(items: Iterable[Item], size: int, random: Random) -> tuple[int, list[Item]]:
    """Returns the number of items, and `size` of them, of which each is as likely to be there as any other.

    It keeps no more than these in memory (Vitter 1985, algorithm R).
    """
    count, drawn = 0, list[Item]()
    for count, item in enumerate(items, start=1):
        if len(drawn) < size:
            drawn.append(item)
        elif (place := random.randrange(count)) < size:
            drawn[place] = item
    return count, drawn


def count_plain_lines(path: Path) -> tuple[int, str | None]:
    """Returns the number of lines of a file, and a problem if it cannot be used for training as it is.

    It reads a gigabyte in seconds, because it examines single lines only in chunks with a problem.
    """
    lines, last = 0, b"\n"
    with path.open("rb") as stream:
        if unpacker(stream):
            return 0, (
                "is compressed, but NeMo reads only plain text; decompress it, or for training, let 'nemo-distill "
                "prepare' make tarred data of it"
            )
        while chunk := stream.read(_CHUNK):
            chunk += stream.readline()
            if _oddity(chunk):
                return lines, next(_described(chunk, lines))
            lines, last = lines + chunk.count(b"\n"), chunk[-1:]
    return lines + (last != b"\n"), None


def _described(chunk: bytes, lines: int) -> Iterator[str]:
    for number, line in enumerate(chunk.split(b"\n"), start=lines + 1):
        if oddity := _oddity(line):
            yield oddity.format(line=number)


def _oddity(raw: bytes) -> str | None:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8 in line {line}"
    found = min((character for character in MISLEADING if character in text), key=text.index, default=None)
    if found is None:
        return None
    what = f"holds U+{ord(found):04X} ({MISLEADING[found]}) in line {{line}}"
    if found == "\r" and text.rstrip("\n").find("\r") == len(text.rstrip("\n")) - 1:
        what = "ends line {line} with CR LF (Windows line end)"
    return f"{what}; 'nemo-distill mix' writes a corpus without such characters"


def parallel_lines(source: Path, target: Path, *, label: str | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yields the line pairs of two parallel files.

    Args:
        label: what is shown before the progress; None shows none.

    Raises:
        DataError: if one has more lines than the other.
    """
    sources = lines_with_progress(source, label) if label else TextFiles([source])
    for number, pair in enumerate(zip_longest(sources, TextFiles([target])), start=1):
        if None in pair:
            longer, shorter = (source, target) if pair[1] is None else (target, source)
            raise DataError(f"'{longer}' has more lines than '{shorter}', which ends after line {number - 1}.")
        yield pair


@contextmanager
def telling_damage(describe: Callable[[], str], *errors: type[Exception]) -> Iterator[None]:
    """Raises a DataError that begins with `describe()` for what a damaged file raises: in unpacking, or `errors`.

    Errors of the disk itself, such as EIO, are raised as they are, but not EINVAL: a place before the file begins.
    """
    kinds: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, lzma.LZMAError, *errors)
    try:
        yield
    except kinds as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):
            raise
        raise DataError(f"{describe()}: {error}") from error


def stream_lines(stream: BufferedIOBase, path: Path) -> Iterator[bytes]:
    """Yields the lines of a stream without line ends.

    Raises:
        DataError: if the stream is damaged or no text, with the name of the file at `path`.
    """
    number = 0
    with telling_damage(lambda: f"'{path}' cannot be unpacked after line {number}"):
        while line := stream.readline(MAX_BYTES):
            number += 1
            if len(line) == MAX_BYTES and not line.endswith(b"\n"):
                raise DataError(f"'{path}', line {number}: has {MAX_BYTES} bytes without a line end, so it is no text")
            yield line.removesuffix(b"\n")


def expand_paths(pattern: str) -> list[Path]:
    """Returns the files for a path, which may contain `~` and `*`. Several files are in numeric order.

    A file whose very name is `news[2013].fr` comes before the pattern.
    """
    path = str(user_path(pattern))
    if os.path.isfile(path) or not has_magic(path):
        return [Path(path)]
    return [Path(name) for name in sorted(glob(path), key=numeric_order)]
