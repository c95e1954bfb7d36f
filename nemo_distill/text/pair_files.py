"""Reads files that hold both sides of their pairs: TMX, archives of OPUS, Parquet, JSON lines, and tables separated by
tabs or commas.

Each format is read as rows, which map names of fields to text: languages of a TMX, endings of the names in an archive,
keys of JSON objects and of Parquet, or columns of a table.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from io import BufferedReader
from itertools import islice, zip_longest
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree
from zipfile import BadZipFile, ZipFile

from nemo_distill.config.errors import DataError
from nemo_distill.text.languages import same_language
from nemo_distill.text.lines import TextFiles, stream_lines, telling_damage, unpacked

LOOKED_AT = 1000  # rows, to tell which fields a file has
SHOWN = 30  # fields, and characters of each, that a message lists
LANGUAGE = ("{http://www.w3.org/XML/1998/namespace}lang", "lang")  # attributes; TMX 1.1 has the second
XML_STARTS = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe", b"\xfe\xff")
ARCHIVE, PARQUET = b"PK\x03\x04", b"PAR1"  # how such files begin
Row = Mapping[str, str]


def read_pairs(path: Path, fields: Sequence[str]) -> Iterator[tuple[bytes, bytes]]:
    """Yields the pairs of a file. A side that a row lacks is empty.

    Args:
        path: a TMX, JSON lines or a table, plain or packed, Parquet, or a zip archive of two text files, as OPUS has
            them (Moses format); its kind is told by how it begins, and CSV by its name.
        fields: of source and target: languages, endings of file names, keys such as `translation.de`, numbers of
            columns from 1, or names of columns, which the first row has then.

    Raises:
        DataError: if the file is damaged.
    """
    for row in _rows(path, fields):
        source, target = (row.get(_field(field, tuple(row)) or "", "") for field in fields)
        yield source.encode("utf-8", "surrogateescape"), target.encode("utf-8", "surrogateescape")


def field_problems(path: Path, fields: Sequence[str]) -> list[str]:
    """Returns what is wrong with a file, or which fields its first rows do not have; the words go on with a key."""
    try:
        if _start(path).startswith(ARCHIVE):
            names = tuple(_members(path))
        else:
            names = tuple(dict.fromkeys(name for row in islice(_rows(path, fields), LOOKED_AT) for name in row))
    except DataError as error:
        return [f"names a file that cannot be read: {error}"]
    known = ", ".join(name if len(name) <= SHOWN else f"{name[:SHOWN]}..." for name in names[:SHOWN]) or "none"
    return [
        f"names '{path}', which has no field '{field}'; it has {known}"
        for field in fields
        if _field(field, names) is None
    ]


@cache
def _field(field: str, names: tuple[str, ...]) -> str | None:
    """Returns the name of a row's field that is meant: the same one, or another code of the same language."""
    if field in names:
        return field
    return next(iter(same_language(field, names)), None)


def _start(path: Path) -> bytes:
    """Returns the first bytes of what a file holds."""
    with path.open("rb") as file:
        return unpacked(file).read(8).lstrip()


def _rows(path: Path, fields: Sequence[str]) -> Iterator[Row]:
    start = _start(path)
    if start.startswith(ARCHIVE):
        return _lines_of_members(path, fields)
    if start.startswith(PARQUET):
        return _parquet(path)
    if start.startswith(XML_STARTS):
        return _translation_units(path)
    if start.removeprefix(b"\xef\xbb\xbf").startswith(b"{"):
        return _objects(path)
    return _table(path, has_names=not all(field.isdecimal() for field in fields))


def _members(path: Path) -> dict[str, str]:
    """Returns the files in an archive by the endings of their names.

    Raises:
        DataError: if the archive is damaged, or two of its files have the same ending.
    """
    found: dict[str, str] = {}
    with _damage_of_archive(path), ZipFile(path) as archive:
        for name in archive.namelist():
            if ending := PurePosixPath(name).suffix.removeprefix("."):
                if ending in found:
                    raise DataError(f"'{path}' has two files of the same ending: {found[ending]} and {name}")
                found[ending] = name
    return found


def _lines_of_members(path: Path, fields: Sequence[str]) -> Iterator[Row]:
    members = _members(path)
    endings = [ending for field in fields if (ending := _field(field, tuple(members)))]
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

    with telling_damage(lambda: f"'{path}' is damaged", pyarrow.ArrowException), ParquetFile(path) as file:
        for batch in file.iter_batches(LOOKED_AT):
            for row in batch.to_pylist():
                yield dict(_flat(row))


def _translation_units(path: Path) -> Iterator[Row]:
    """Yields the units of a TMX: the text of each language."""
    damage = telling_damage(lambda: f"'{path}' is damaged", ElementTree.ParseError)
    with damage, path.open("rb") as file:
        body: ElementTree.Element | None = None
        for event, element in ElementTree.iterparse(unpacked(file), ("start", "end")):
            name = element.tag.rpartition("}")[2]
            if body is None or (event == "start" and name == "body"):
                body = element
            elif event == "end" and name == "tu":
                yield dict(reversed([*_variants(element)]))  # of two in one language, the first
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
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise DataError(f"'{path}', line {number}: is no JSON object")
        yield dict(_flat(found))


def _flat(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield f"{prefix}{key}", value


def _table(path: Path, has_names: bool) -> Iterator[Row]:
    lines = _text_lines(path)
    rows: Iterable[list[str]] = (line.removesuffix("\r").split("\t") for line in lines)
    if ".csv" in path.suffixes:
        rows = csv.reader(f"{line}\n" for line in lines)
    try:
        names: list[str] = []
        for row in rows:
            if has_names and not names:
                names = row
                continue
            yield dict(zip(names or map(str, range(1, len(row) + 1)), row))
    except csv.Error as error:
        raise DataError(f"'{path}' is no table: {error}") from error


def _text_lines(path: Path) -> Iterator[str]:
    for number, line in enumerate(TextFiles([path])):
        text = _text(line)
        yield text if number else text.removeprefix("\ufeff")


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")
