"""Shards of translations: their format, a reader that checks their order, and the folder that holds them.

A shard is a gzip file of JSON lines. The first line is the header:

    {"shard": 0, "first_line": 1, "lines": 10000, "settings": "<digest>", "counts": {"translated": 9998, "empty": 2}}

It is followed by one row for each source line, translated or not:

    {"line": 1, "hash": "7d3c5a0f2b1e9846", "hypotheses": [{"text": "The dog .", "score": -0.52}]}

Lines are numbered from 1 through all source files. `hash` is the hash of the line's bytes. A hypothesis has
`"finished": false` if the length limit cut it off. A row has `"source_cut": true` if its source was cut off,
`"oddity"` if its line was invalid, `"failure"` if a teacher that is only text has no translation of it, and
`"reverse_scores"`, one per hypothesis, with a reverse model. The same rows give the same bytes.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import DataError
from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.storage.files import whole_file
from nemo_distill.storage.ledger import fingerprint, sha256_of
from nemo_distill.storage.records import CLOSED, FileEntry, parse_json, read_json
from nemo_distill.storage.shard_folder import ShardError, ShardFolder, ShardManifest
from nemo_distill.text.lines import ODDITIES, TextFiles

BILL = "bill.json"  # of a server's answers
SHARD_NAME = re.compile(r"shard-([0-9]+)\.jsonl\.gz")
FAILURES = MISSING, FAILED = ("missing", "failed")  # no translation: a gap, or an error of whoever should translate
COUNTS = ("translated", *ODDITIES, *FAILURES, "cleaned", "source_cut", "unfinished")  # all keys of `counts`
DIGITS = 6  # decimals of scores


@dataclass(frozen=True)
class Row:
    """The row of one source line in a shard.

    Args:
        line: the line number, from 1.
        hypotheses: the hypotheses, best first; empty if the line was not translated.
        oddity: the problem of the line, one of `ODDITIES`.
        source_cut: True if only the beginning of the line was translated.
        reverse_scores: for each hypothesis, the mean log-probability per source token given the hypothesis.
        failure: why the line has no translation, one of `FAILURES`.
    """

    __pydantic_config__ = CLOSED
    line: int
    hash: str
    hypotheses: tuple[Hypothesis, ...]
    oddity: str | None = None
    source_cut: bool = False
    reverse_scores: tuple[float, ...] = ()
    failure: str | None = None

    @property
    def untranslated(self) -> str:
        """Why there is no hypothesis, as a reason for a drop."""
        return f"teacher_{self.failure}" if self.failure else f"source_{self.oddity}"


@dataclass(frozen=True)
class Header:
    """The header of a shard. `settings` is the digest of the settings."""

    __pydantic_config__ = CLOSED
    shard: int
    first_line: int
    lines: int
    settings: str
    counts: dict[str, int]


def count_rows(rows: Sequence[Row]) -> dict[str, int]:
    """Returns the counts of translated, cleaned and cut lines, and of untranslated lines by reason."""
    counts = Counter({"translated": 0})
    for row in rows:
        if not row.hypotheses:
            counts[row.failure or row.oddity or "empty"] += 1
            continue
        counts["translated"] += 1
        counts["cleaned"] += row.oddity is not None
        counts["source_cut"] += row.source_cut
        counts["unfinished"] += not row.hypotheses[0].finished
    return {key: counts[key] for key in COUNTS if counts[key]}


def shard_path(folder: Path, index: int) -> Path:
    """Returns the path of a shard."""
    return folder / f"shard-{index:06d}.jsonl.gz"


def write_shard(path: Path, header: Header, rows: Sequence[Row]) -> None:
    """Writes a shard atomically."""
    with whole_file(path) as stream, gzip.GzipFile("", "wb", compresslevel=6, fileobj=stream, mtime=0) as packed:
        packed.write(_json(vars(header)))
        for row in rows:
            packed.write(_json(_row_record(row)))


def _json(record: dict[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(", ", ": ")).encode() + b"\n"
    except ValueError as error:
        raise DataError(f"the engine gave line {record['line']} a score that is no number") from error


def _row_record(row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {"line": row.line, "hash": row.hash}
    record["hypotheses"] = [
        {"text": hypothesis.text, "score": round(float(hypothesis.score), DIGITS)}
        | ({} if hypothesis.finished else {"finished": False})
        for hypothesis in row.hypotheses
    ]
    if row.oddity:
        record["oddity"] = row.oddity
    if row.source_cut:
        record["source_cut"] = True
    if row.failure:
        record["failure"] = row.failure
    if row.reverse_scores:
        record["reverse_scores"] = [round(score, DIGITS) for score in row.reverse_scores]
    return record


def ordered_shards(folder: Path) -> list[Path]:
    """Returns the shards in a folder, sorted by number. Sorting by name would fail for large numbers.

    Raises:
        ShardError: if a number is missing or occurs twice.
    """
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := SHARD_NAME.fullmatch(path.name))]
    for expected, (index, path) in enumerate(sorted(found)):
        if index > expected:
            raise ShardError(f"'{folder}': shard {expected} is missing; the next there is '{path.name}'.")
        if index < expected:
            raise ShardError(f"'{folder}': shard {index} is there twice; one of them is '{path.name}'.")
    return [path for _, path in sorted(found)]


def read_header(path: Path) -> Header:
    """Returns the header of a shard.

    Raises:
        ShardError: if the first line is not a valid header.
    """
    try:
        return parse_json(next(iter(TextFiles([path])), b""), Header, f"'{path}', line 1,")
    except DataError as error:
        raise ShardError(f"{error}.") from error


def read_shard(path: Path) -> Iterator[Row]:
    """Yields the rows of a shard.

    Raises:
        ShardError: if rows are missing, repeated or out of order, or the file is damaged.
    """
    header = read_header(path)
    end = header.first_line + header.lines
    expected = header.first_line
    for position, row in enumerate(_rows(path), start=2):
        if row.line != expected or row.line >= end:
            raise ShardError(f"'{path}', line {position}: {_disorder(row.line, expected, end)}.")
        expected += 1
        yield row
    if expected != end:
        raise ShardError(f"'{path}' ends before source line {expected}; its header promises all up to {end - 1}.")


def _disorder(found: int, expected: int, end: int) -> str:
    if found >= end:
        return f"source line {found} does not belong into this shard"
    if found > expected:
        return f"source line {expected} is missing; this is {found}"
    return f"source line {found} is doubled or out of order; line {expected} should stand here"


def _rows(path: Path) -> Iterator[Row]:
    try:
        for position, line in enumerate(islice(TextFiles([path]), 1, None), start=2):
            yield parse_json(line, Row, f"'{path}', line {position},")
    except DataError as error:
        raise ShardError(f"{error}.") from error


def ordered_headers(folder: Path) -> Iterator[tuple[Path, Header]]:
    """Yields the shards in a folder, sorted by number, and their headers.

    Raises:
        ShardError: if a shard is missing, occurs twice, or does not go on where the one before it ends.
    """
    first_line = 1
    for index, path in enumerate(ordered_shards(folder)):
        header = read_header(path)
        if (header.shard, header.first_line) != (index, first_line):
            raise ShardError(
                f"'{path}', line 1: is shard {header.shard} and begins with source line {header.first_line}; "
                f"shard {index}, from line {first_line} on, should stand here."
            )
        yield path, header
        first_line += header.lines


def read_rows(folder: Path) -> Iterator[Row]:
    """Yields the rows of all shards in a folder, in the order of the source.

    Raises:
        ShardError: if the rows are not exactly 1, 2, 3, ..., in this order.
    """
    for path, _ in ordered_headers(folder):
        yield from read_shard(path)


class LabelManifest(ShardManifest):
    """The content of a label manifest."""

    lines: int
    counts: dict[str, int]
    sources: list[FileEntry]


class LabelFolder(ShardFolder):
    """The folder of a label generation.

    Args:
        path: the folder, created by `take`.
        settings: everything that the labels depend on, as JSON values.
        sources: the files to translate.
    """

    holds = "labels"
    own_files = (*ShardFolder.own_files, BILL)
    manifest_shape = LabelManifest

    def __init__(self, path: Path, settings: Mapping[str, Any], sources: Sequence[Path]):
        # The settings contain names and sizes of the sources alone, so that older labels remain valid.
        super().__init__(path, settings, lambda: _checksums(sources))
        self.sources = sources

    @classmethod
    def finished(cls, path: Path, sources: Sequence[Path]) -> "LabelFolder":
        """Opens finished labels, whatever their settings, of the same source files.

        Raises:
            DataError: if the labels are not finished, or are those of other source files.
        """
        manifest = read_json(path / "manifest.json", LabelManifest)
        if manifest is None:
            raise DataError(f"'{path}' holds no finished labels: it has no manifest.json")
        named = [entry["sha256"] for entry in manifest["sources"]]
        if named != [fingerprint(source)["sha256"] for source in sources]:
            raise DataError(f"'{path}' holds labels of other source files")
        return cls(path, manifest["settings"], sources)

    def shard(self, index: int) -> Path:
        return shard_path(self.shards, index)

    def _clear(self) -> None:
        """Also deletes the records of text of such labels, so that it is not taken for text of the new ones."""
        super()._clear()
        for path in self.path.glob("*.json"):
            if _labels_of_text(path) == self.digest:
                path.unlink()

    def described(self, shards: int) -> dict[str, Any]:
        headers = list(ordered_headers(self.shards))
        if len(headers) != shards:
            raise ShardError(f"'{self.shards}' holds {len(headers)} shards; the source makes {shards}.")
        counts: Counter[str] = Counter()
        entries = []
        for path, header in headers:
            if header.settings != self.digest:
                raise ShardError(f"'{path}', line 1: was made with other settings; delete it and run again.")
            counts.update(header.counts)
            entries.append({"name": path.name, "lines": header.lines, "sha256": sha256_of(path)})
        checksums = self.work.inputs.values()  # of the sources as they were when the work began
        read = [entry | {"sha256": sha256} for entry, sha256 in zip(self.settings["sources"], checksums)]
        return {
            "lines": sum(entry["lines"] for entry in entries),
            "counts": {key: counts[key] for key in COUNTS if counts[key]},
            "sources": read,
            "shards": entries,
        }


def _checksums(sources: Sequence[Path]) -> dict[str, str]:
    """Returns the SHA-256 of each source by number and name, which remain if the folder of the sources is moved."""
    return {
        f"source {number}, {path.name}": fingerprint(path)["sha256"] for number, path in enumerate(sources, start=1)
    }


def _labels_of_text(path: Path) -> Any:
    """Returns the digest of the labels that a record of text names; None if the file is no such record."""
    try:
        settings = (read_json(path) or {}).get("settings")
    except DataError:  # a JSON file of someone else's
        return None
    return settings.get("labels") if isinstance(settings, dict) else None
