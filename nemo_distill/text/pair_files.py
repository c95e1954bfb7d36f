"""Reads files that hold both sides of their pairs: TMX, archives of OPUS, Parquet, JSON lines, and tables separated by
tabs or commas.

Each format is read as rows, which map names of fields to text: languages of a TMX, endings of the names in an archive,
keys of JSON objects and of Parquet, or columns of a table.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import lru_cache
from io import BufferedReader
from itertools import islice, zip_longest
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree
from zipfile import BadZipFile, ZipFile

from nemo_distill.config.errors import DataError
from nemo_distill.storage.ledger import is_hidden
from nemo_distill.text.languages import same_language
from nemo_distill.text.lines import MAX_BYTES, TextFiles, stream_lines, telling_damage, unpacked

LOOKED_AT = 1000  # rows, to tell which fields a file has
SHOWN = 30  # fields, and characters of each, that a message lists
LANGUAGE = ("{http://www.w3.org/XML/1998/namespace}lang", "lang")  # attributes; TMX 1.1 has the second
UTF16_STARTS = (b"\xff\xfe", b"\xfe\xff")
JSON_ARRAY = re.compile(rb"\[\s*\{")
XML_START = re.compile(rb"<(\?xml\b|!|tmx\b|html\b)", re.IGNORECASE)
NO_TEXT = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # halves of an emoji; those between stand for bytes
ARCHIVE, PARQUET = b"PK\x03\x04", b"PAR1"  # how such files begin
Row = Mapping[str, str]


def read_pairs(path: Path, fields: Sequence[str], left_out: Counter[str]) -> Iterator[tuple[bytes, bytes]]:
    """Yields the pairs of a file. A side that a row lacks is empty.

    Args:
        path: a TMX, JSON lines or a table, plain or packed, Parquet, or a zip archive of two text files, as OPUS has
            them (Moses format); its kind is told by how it begins, and CSV by its name.
        fields: of source and target: languages, endings of file names, keys such as `translation.de`, numbers of
            columns from 1, or names of columns, which the first row has then.
        left_out: counts the rows of a table that have more columns than its first row, as `too_many_columns`: a tab in
            a cell makes such rows.

    Raises:
        DataError: if the file is damaged.
    """
    for row in _rows(path, fields, left_out):
        source, target = (row.get(_field(field, tuple(row)) or "", "") for field in fields)
        yield source.encode("utf-8", "surrogateescape"), target.encode("utf-8", "surrogateescape")


def field_problems(path: Path, fields: Sequence[str]) -> list[str]:
    """Returns what is wrong with a file, or which fields its first rows do not have; the words go on with a key."""
    try:
        if _start(path).startswith(ARCHIVE):
            names = tuple(_members(path))
        else:
            rows = islice(_rows(path, fields, Counter()), LOOKED_AT)
            names = tuple(dict.fromkeys(name for row in rows for name in row))
    except DataError as error:
        return [f"names a file that cannot be read: {error}"]
    known = ", ".join(name if len(name) <= SHOWN else f"{name[:SHOWN]}..." for name in names[:SHOWN]) or "none"
    return [
        f"names '{path}', which has no field '{field}'; it has {known}"
        for field in fields
        if _field(field, names) is None
    ]


@lru_cache(256)
def _field(field: str, names: tuple[str, ...]) -> str | None:
    """Returns the name of a row's field that is meant: the same one, or another code of the same language."""
    if field in names:
        return field
    return next(iter(same_language(field, names)), None)


def _start(path: Path) -> bytes:
    """Returns the first bytes of what a file holds."""
    with telling_damage(lambda: f"'{path}' is damaged"), path.open("rb") as file:
        return unpacked(file).read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()


def _rows(path: Path, fields: Sequence[str], left_out: Counter[str]) -> Iterator[Row]:
    start = _start(path)
    if start.startswith(ARCHIVE):
        return _lines_of_members(path, fields)
    if start.startswith(PARQUET):
        return _parquet(path)
    if start.startswith(UTF16_STARTS) or XML_START.match(start):
        return _translation_units(path)
    if JSON_ARRAY.match(start):
        raise DataError(f"'{path}' is a JSON array; write each object on a line of its own, as jq -c '.[]' does")
    if start.startswith(b"{") and _object(next(filter(str.strip, _text_lines(path)))) is not None:
        return _objects(path)
    return _table(path, left_out, has_names=not all(field.isdecimal() for field in fields))


def _members(path: Path) -> dict[str, list[str]]:
    """Returns the files in an archive by the endings of their names, without hidden ones and those that a Mac adds.

    Raises:
        DataError: if the archive is damaged.
    """
    found: dict[str, list[str]] = {}
    with _damage_of_archive(path), ZipFile(path) as archive:
        for name in archive.namelist():
            member = PurePosixPath(name)
            is_file = member.suffix and not name.endswith("/")
            if is_file and not is_hidden(member) and "__MACOSX" not in member.parts:
                found.setdefault(member.suffix.removeprefix("."), []).append(name)
    return found


def _lines_of_members(path: Path, fields: Sequence[str]) -> Iterator[Row]:
    found = _members(path)
    endings = [ending for field in fields if (ending := _field(field, tuple(found)))]
    for ending in endings:
        if len(found[ending]) > 1:
            raise DataError(f"'{path}' has several files of the ending '{ending}': {', '.join(found[ending])}")
    members = {ending: found[ending][0] for ending in endings}
    with _damage_of_archive(path), ZipFile(path) as archive, ExitStack() as opened:
        files = [opened.enter_context(archive.open(members[ending])) for ending in endings]
        streams = [BufferedReader(file) for file in files]  # type: ignore[type-var]
        for lines in zip_longest(*(stream_lines(stream, path) for stream in streams)):
            if None in lines:
                names = " and ".join(members[ending] for ending in endings)
                raise DataError(f"'{path}': {names} have different numbers of lines")
            yield {ending: _text(line) for ending, line in zip(endings, lines)}


def _damage_of_archive(path: Path) -> AbstractContextManager[None]:
    return telling_damage(lambda: f"'{path}' is damaged", BadZipFile, RuntimeError)  # the latter for passwords


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    # pyarrow checks nothing, and decodes what is said to be UTF-8.
    errors = (pyarrow.ArrowException, UnicodeDecodeError)
    with telling_damage(lambda: f"'{path}' is damaged", *errors), ParquetFile(path) as file:
        for batch in file.iter_batches(LOOKED_AT):
            for row in batch.to_pylist():
                yield dict(_flat(row))


def _translation_units(path: Path) -> Iterator[Row]:
    """Yields the units of a TMX: the text of each language."""
    # The last two are raised for encodings that the parser does not have, such as Shift JIS.
    errors = (ElementTree.ParseError, ValueError, LookupError)
    with telling_damage(lambda: f"'{path}' is damaged or in an unknown encoding", *errors), path.open("rb") as file:
        body: ElementTree.Element | None = None
        for event, element in ElementTree.iterparse(unpacked(file), ("start", "end")):
            name = element.tag.rpartition("}")[2]
            if body is None or (event == "start" and name == "body"):
                body = element
            elif event == "end" and name == "tu":
                unit: dict[str, str] = {}
                for language, text in _variants(element):
                    unit.setdefault(language, text)
                yield unit
                body.clear()


def _variants(unit: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for variant in unit.findall("{*}tuv"):
        language = next((variant.attrib[name] for name in LANGUAGE if name in variant.attrib), "")
        if (segment := variant.find("{*}seg")) is not None:
            yield language, "".join(_shown(segment))


def _shown(element: ElementTree.Element) -> Iterator[str]:
    """Yields the text of a segment without the codes of another format that it holds."""
    yield element.text or ""
    for child in element:
        if child.tag.rpartition("}")[2] == "hi":
            yield from _shown(child)
        yield child.tail or ""


def _objects(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_text_lines(path), start=1):
        if line.strip():
            if (found := _object(line)) is None:
                raise DataError(f"'{path}', line {number}: is no JSON object")
            yield dict(_flat(found))


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _flat(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, bytes):  # of Parquet, which some programs write without the type of text
            yield f"{prefix}{key}", _text(value)
        elif isinstance(value, str):
            yield f"{prefix}{key}", NO_TEXT.sub("\ufffd", value)


def _table(path: Path, left_out: Counter[str], has_names: bool) -> Iterator[Row]:
    lines = _text_lines(path)
    rows: Iterable[list[str]] = (line.removesuffix("\r").split("\t") for line in lines)
    if ".csv" in path.name.lower():
        first = next(_text_lines(path), "")
        delimiter = max(",;", key=first.count)  # some spreadsheets write semicolons
        csv.field_size_limit(MAX_BYTES)  # by default 128 KiB, and one longer cell ends the reading
        rows = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True)
    try:
        names: list[str] = []
        for row in rows:
            if not names:
                names = row if has_names else [str(number) for number in range(1, len(row) + 1)]
                if has_names:
                    continue
            if len(row) > len(names):
                left_out["too_many_columns"] += 1
            else:
                yield dict(zip(names, row))
    except csv.Error as error:
        raise DataError(f"'{path}' is no table: {error}") from error


def _text_lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(TextFiles([path])):
        text = _text(line)
        yield text if number else text.removeprefix("\ufeff")


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")
