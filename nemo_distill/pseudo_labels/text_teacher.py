"""Teachers that are only text: their translations stand in files, several for a line, with or without scores.

A file format is a function that yields the translations of each source line, in the order of the source. Formats with
line numbers must have their lines in increasing order; then a file of any size is read in constant memory.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice, zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import section
from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.pseudo_labels.generate import Failure
from nemo_distill.pseudo_labels.shards import FAILED, MISSING
from nemo_distill.storage.records import CLOSED, parse_json
from nemo_distill.text.lines import LinePolicy, TextFiles, chunks, clean_line, finite_number

NO_SCORE = 0.0
SEPARATOR = b" ||| "
RANGE = rb"\d+(?:-\d+)?"
ALIGNMENT = re.compile(rb"(?:(?:\d+-\d+|%b=%b)(?: |$))+" % (RANGE, RANGE))  # of words, or of Moses's phrases
FIRST_LINES = {"moses": 0, "tsv": 1, "json": 1}  # the formats with line numbers


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


@section
class FileSettings:
    """How `engine=file` reads translations."""

    format: Literal["lines", "systems", "blocks", "moses", "tsv", "json"] = "lines"
    """`lines`: a translation per line of the source. `systems`: each file of `model` has one for each line. `blocks`:
    `per_line` successive lines for each line. `moses`: an n-best list, `0 ||| text ||| features ||| score`. `tsv`: the
    line number, translation and, if there is one, score. `json`: JSON lines with `line`, `translations` and `scores`,
    or with `error`. If all translations of a line have scores, the highest is the best; otherwise the first is."""
    per_line: int = Field(default=1, ge=1)
    """Translations of a line, with `format=blocks`."""
    first_line: int | None = Field(default=None, ge=0, le=1)
    """The number of the source's first line, with `moses`, `tsv` and `json`; null: 0 with `moses`, otherwise 1."""
    failed: Pattern | None = None
    """A regular expression of all that an API wrote in place of a translation, such as `ERROR.*`. Lines without any
    other translation are counted as `failed`, and lines without any entry as `missing`."""

    def problems(self) -> list[str]:
        """Returns a sentence for each key that does not go with the format."""
        problems = []
        if (self.per_line > 1) != (self.format == "blocks"):
            problems.append(f"per_line={self.per_line}: must be at least 2 with format=blocks, and otherwise 1.")
        if self.first_line is not None and self.format not in FIRST_LINES:
            problems.append(f"first_line={self.first_line}: format={self.format} has no line numbers.")
        return problems

    @property
    def has_numbers(self) -> bool:
        """True if entries say which line they belong to, so that lines may be missing."""
        return self.format in FIRST_LINES


@dataclass(frozen=True)
class Entry:
    """A translation as it stands in a file.

    Args:
        line: the number of the source line, from 1.
        raw: the text; None if whoever should translate has failed.
        score: the higher, the better; None if the file has none.
    """

    line: int
    raw: bytes | None
    score: float | None = None


class TextTeacher:
    """Returns translations by line number.

    Args:
        paths: the files. Except for `systems`, they are read one after the other.
        policy: how to treat invalid lines. A dropped line is an empty translation.
    """

    def __init__(self, paths: Sequence[Path], policy: LinePolicy, settings: FileSettings | None = None):
        self.paths, self._policy, self.settings = paths, policy, settings or FileSettings()
        self._failed = re.compile(self.settings.failed) if self.settings.failed else None
        self._rest: Iterator[list[Entry]] = iter(())
        self._next_line = 0  # the next line in `_rest`; 0 if no file is open

    def __iter__(self) -> Iterator[list[Entry]]:
        """Yields the entries of each line, up to the last line that has any.

        Raises:
            DataError: if the files are not in the format.
        """
        for entries in self._lines():
            yield [replace(entry, raw=None) if self._is_failure(entry) else entry for entry in entries]

    def _is_failure(self, entry: Entry) -> bool:
        text = clean_line(entry.raw, self._policy).text if self._failed and entry.raw is not None else ""
        return bool(self._failed and self._failed.fullmatch(text))

    def _lines(self) -> Iterator[list[Entry]]:
        if not self.settings.has_numbers:
            yield from _UNNUMBERED[self.settings.format](self.paths, self.settings.per_line)
            return
        first = self.settings.first_line
        first = FIRST_LINES[self.settings.format] if first is None else first
        numbered = (
            entry
            for path in self.paths
            for number, line in enumerate(TextFiles([path]), start=1)
            for entry in _NUMBERED[self.settings.format](line, first, f"'{path}', line {number}")
        )
        yield from _by_line(numbered)

    def translate(self, first_line: int, texts: Sequence[str]) -> list[Translation | Failure]:
        """Returns the translations of `len(texts)` lines, starting at line number `first_line`.

        Raises:
            DataError: if the files have too few lines.
        """
        if not 0 < self._next_line <= first_line:
            self._rest, self._next_line = iter(self), 1
        skipped = first_line - self._next_line
        self._next_line = first_line + len(texts)
        found = list(islice(self._rest, skipped, skipped + len(texts)))
        if len(found) < len(texts) and not self.settings.has_numbers:
            names = ", ".join(f"'{path}'" for path in self.paths)
            raise DataError(f"{names} hold no translation of source line {first_line + len(found)}")
        found += [[] for _ in range(len(texts) - len(found))]
        return list(map(self._translation, found))

    def _translation(self, entries: Sequence[Entry]) -> Translation | Failure:
        if not entries:
            return Failure(MISSING)
        hypotheses = [
            Hypothesis(clean_line(entry.raw, self._policy).text, NO_SCORE if entry.score is None else entry.score)
            for entry in entries
            if entry.raw is not None
        ]
        if all(entry.score is not None for entry in entries if entry.raw is not None):
            hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
        return Translation(tuple(hypotheses)) if hypotheses else Failure(FAILED)


@dataclass
class Survey:
    """What is in the files of a teacher.

    Args:
        lines: the number of the last source line that has a translation.
        most: the most translations of a line.
        unscored: the first line with a translation without a score, if there is one.
    """

    lines: int = 0
    most: int = 0
    unscored: int | None = None


def survey(teacher: TextTeacher) -> Survey:
    """Reads all files.

    Raises:
        DataError: if the files are not in the format.
    """
    found = Survey()
    for found.lines, entries in enumerate(teacher, start=1):
        found.most = max(found.most, len(entries))
        if found.unscored is None and any(entry.score is None for entry in entries if entry.raw is not None):
            found.unscored = found.lines
    return found


def _blocks(paths: Sequence[Path], per_line: int) -> Iterator[list[Entry]]:
    for number, block in enumerate(chunks(TextFiles(paths), per_line), start=1):
        if len(block) < per_line:
            raise DataError(f"'{paths[-1]}' ends within the block of source line {number}; per_line={per_line}.")
        yield [Entry(number, raw) for raw in block]


def _systems(paths: Sequence[Path], per_line: int) -> Iterator[list[Entry]]:
    for number, raw in enumerate(zip_longest(*(TextFiles([path]) for path in paths)), start=1):
        if ended := [path for path, line in zip(paths, raw) if line is None]:
            raise DataError(f"'{ended[0]}' has {number - 1} lines, and other files have more.")
        yield [Entry(number, line) for line in raw]


_UNNUMBERED: dict[str, Callable[[Sequence[Path], int], Iterator[list[Entry]]]] = {
    "lines": _blocks,
    "blocks": _blocks,
    "systems": _systems,
}


def _by_line(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yields the entries of line 1, 2, ..., with empty lists for gaps."""
    expected = 1
    for line, group in groupby(entries, key=lambda entry: entry.line):
        yield from ([] for _ in range(expected, line))
        if line < expected:
            raise DataError(f"the entries of source line {line} come after those of line {expected - 1}; sort them.")
        yield list(group)
        expected = line + 1


def _moses(line: bytes, first: int, where: str) -> Iterator[Entry]:
    """Reads `number ||| text ||| features ||| score`, the score being optional.

    The text may contain the separator: features and score are the last fields. Alignments, which Moses writes after
    them and Marian before, are not used.
    """
    number, *rest = (line + b" ").split(SEPARATOR)
    if not rest:
        raise DataError(f"{where}: is not '0 ||| text ||| features ||| score'.")
    fields = [part.strip() for part in rest]
    while len(fields) > 2 and ALIGNMENT.fullmatch(fields[-1]):
        fields.pop()
    score = finite_number(fields[-1]) if len(fields) > 1 else None
    if score is not None:
        fields.pop()
    while len(fields) > 1 and (ALIGNMENT.fullmatch(fields[-1]) or _is_features(fields[-1])):
        fields.pop()
    yield Entry(_line_number(number, first, where), SEPARATOR.join(fields), score)


def _is_features(field_: bytes) -> bool:
    """True for features such as `LM0= -12.5 -3 d: 0 F0=-1`, Marian's soft alignments, or none at all."""
    values = re.split(rb"[^\s=:]+[=:]|[\s,]", field_)
    return all(finite_number(value) is not None for value in values if value)


def _tsv(line: bytes, first: int, where: str) -> Iterator[Entry]:
    number, *rest = line.rstrip(b"\r").split(b"\t")
    if len(rest) not in (1, 2):
        raise DataError(
            f"{where}: has {len(rest) + 1} columns; they must be line number, translation and, if any, score."
        )
    score = finite_number(rest[1]) if len(rest) == 2 else None
    if len(rest) == 2 and score is None:
        raise DataError(f"{where}: '{rest[1].decode('utf-8', 'replace')[:60]}' is not a score.")
    yield Entry(_line_number(number, first, where), rest[0], score)


@dataclass(frozen=True)
class JsonEntry:
    """A line of a JSON file."""

    __pydantic_config__ = CLOSED
    line: int
    translations: list[str | None] = field(default_factory=list)
    scores: list[float] | None = None
    error: Any = None


def _json(line: bytes, first: int, where: str) -> Iterator[Entry]:
    found = parse_json(line, JsonEntry, where)
    number = _line_number(str(found.line).encode(), first, where)
    if found.scores is not None and len(found.scores) != len(found.translations):
        raise DataError(f"{where}: has {len(found.translations)} translations and {len(found.scores)} scores.")
    if not found.translations:
        yield Entry(number, None)
    scores: Sequence[float | None] = found.scores or [None] * len(found.translations)
    for text, score in zip(found.translations, scores):
        yield Entry(number, None if text is None else text.encode("utf-8", "replace"), score)


_NUMBERED: dict[str, Callable[[bytes, int, str], Iterator[Entry]]] = {"moses": _moses, "tsv": _tsv, "json": _json}


def _line_number(raw: bytes, first: int, where: str) -> int:
    try:
        number = int(raw)
    except ValueError as error:
        said = raw.decode("utf-8", "replace")[:60]
        raise DataError(f"{where}: '{said}' is not the number of a source line.") from error
    if number < first:
        raise DataError(f"{where}: {number} is not the number of a source line, which begin with first_line={first}.")
    return number - first + 1
