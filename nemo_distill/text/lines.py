r"""Lines of text files, plain or gzip, one at a time, and what is done with those that are no proper text.

Lines end at `\n` and nowhere else. Python's text mode also ends them at `\r`, and `splitlines` at U+2028 and six more
characters: one of these in one language shifts all that follows against the other.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from io import BufferedIOBase
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import Field

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import section
from nemo_distill.storage.files import numeric_order, user_path

EMPTY, INVALID_UTF8, CONTROL_CHARACTERS, OVER_LONG = ODDITIES = (
    "empty",
    "invalid_utf8",
    "control_characters",
    "over_long",
)
MOST_BYTES = 1 << 26
# Control characters, U+2028, U+2029 and the byte order mark: those that part words become a space, the others nothing.
_PARTING = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")


# What is taken for the end of a line by `splitlines` or by other programs, or is no text at all.
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
GZIP_START = b"\x1f\x8b"


@section
class LinePolicy:
    """What is done with odd lines. An empty line and an over-long one are always left untranslated."""

    max_characters: int = Field(default=5000, ge=1)
    """A line of more characters is over-long."""
    invalid_utf8: Literal["skip", "replace"] = "skip"
    """A line that is not UTF-8: `skip` leaves it out, `replace` writes U+FFFD for what cannot be decoded."""
    control_characters: Literal["skip", "clean"] = "clean"
    """A line with control characters: `skip` leaves it out; `clean` turns tabs and line separators into spaces and
    drops other control characters."""


@dataclass(frozen=True)
class Line:
    """A line as a model may see it.

    Args:
        text: "" where the line is left out.
        oddity: which of `ODDITIES` it had; None for a proper line.
    """

    text: str
    oddity: str | None = None


def clean_line(raw: bytes, policy: LinePolicy) -> Line:
    """Returns what `policy` makes of a line, given without its line end."""
    try:
        text, oddity = raw.decode("utf-8"), None
    except UnicodeDecodeError:
        if policy.invalid_utf8 == "skip":
            return Line("", INVALID_UTF8)
        text, oddity = raw.decode("utf-8", "replace"), INVALID_UTF8
    cleaned = clean_text(text)
    if not cleaned or cleaned.isspace():
        return Line("", EMPTY)
    if len(cleaned) > policy.max_characters:
        return Line("", OVER_LONG)
    if cleaned != text:
        oddity = oddity or CONTROL_CHARACTERS
        if policy.control_characters == "skip":
            return Line("", CONTROL_CHARACTERS)
    return Line(cleaned, oddity)


def clean_text(text: str) -> str:
    """Returns `text` without control characters, so that it stays one line and one column wherever it is written."""
    if not _CONTROL.search(text):
        return text
    return _CONTROL.sub(lambda match: " " if match[0] in _PARTING else "", text).strip()


def line_hash(raw: bytes) -> str:
    """Returns 16 hexadecimal digits that tell this line, given without its line end, from others."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


class TextFiles:
    """The lines of several files, one after the other, as bytes without their line ends.

    Args:
        paths: plain or gzip files, told apart by their first bytes.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths
        self.size = sum(path.stat().st_size for path in paths)
        self._passed = 0
        self._file: BinaryIO | None = None

    @property
    def position(self) -> int:
        """How many of the files' `size` bytes, of a gzip file the packed ones, have been read."""
        return self._passed + (self._file.tell() if self._file else 0)

    def __iter__(self) -> Iterator[bytes]:
        self._passed = 0
        for path in self.paths:
            with path.open("rb") as self._file:
                packed = self._file.peek(2)[:2] == GZIP_START
                yield from _lines(gzip.GzipFile(fileobj=self._file) if packed else self._file, path)
                self._passed, self._file = self._passed + self._file.tell(), None


def count_plain_lines(path: Path) -> tuple[int, str | None]:
    """Returns the number of a file's lines, and what keeps them from being trained on as they are, if anything does.

    It reads a gigabyte in seconds, since it looks at lines by themselves only where something is found.
    """
    lines, last = 0, b"\n"
    with path.open("rb") as stream:
        if stream.peek(2)[:2] == GZIP_START:
            return 0, "is packed, and NeMo reads plain text alone; unpack it"
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
        what = "ends line {line} with CR LF, as Windows does"
    return f"{what}; 'nemo-distill mix' writes a corpus without such characters"


def parallel_lines(source: Path, target: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields the lines of two files that go in pairs.

    Raises:
        DataError: if one has more lines than the other.
    """
    for number, pair in enumerate(zip_longest(TextFiles([source]), TextFiles([target])), start=1):
        if None in pair:
            longer, shorter = (source, target) if pair[1] is None else (target, source)
            raise DataError(f"'{longer}' has more lines than '{shorter}', which ends after line {number - 1}.")
        yield pair


def _lines(stream: BufferedIOBase, path: Path) -> Iterator[bytes]:
    number = 0
    try:
        while line := stream.readline(MOST_BYTES):
            number += 1
            if len(line) == MOST_BYTES and not line.endswith(b"\n"):
                raise DataError(f"'{path}', line {number}: has {MOST_BYTES} bytes and no end; is this text?")
            yield line.removesuffix(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"'{path}' cannot be unpacked after line {number}: {error}") from error


def expand_paths(pattern: str) -> list[Path]:
    """Returns the files that a path names, which may hold `~` and, for many files in numeric order, `*`."""
    path = str(user_path(pattern))
    return [Path(name) for name in sorted(glob(path), key=numeric_order)] if has_magic(path) else [Path(path)]
