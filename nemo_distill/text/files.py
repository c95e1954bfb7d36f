"""Checks the text files in a config: that they exist, are parallel, and are tokenized as translation expects."""

import codecs
import itertools
import json
import os
import re
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator

from nemo_distill.config.checks import MISSING
from nemo_distill.config.errors import DataError
from nemo_distill.config.section import Allowed, refuse
from nemo_distill.storage.files import missing_content, user_path
from nemo_distill.text.lines import TextFiles, count_plain_lines, expand_paths, is_utf8, unpacker

FILE_KEYS = ("src_file_name", "tgt_file_name")
MEAN_OF_SETS = "avg"  # stands in scores where sets have their names
# Larger files are not read just to compare line counts.
LINE_COUNT_LIMIT = 1 << 30
TABLE_LINES = 10  # that are looked at to tell whether a file is a table
SAMPLED_LINES = 1000  # read from a file to tell if its text is raw, or in which language or encoding it is
INVALID_LINES = 10  # fewer lines that are not UTF-8 tell nothing about a file's encoding
ATTACHED_STOP = re.compile(r"\w[.!?]$")
UTF16 = "UTF-16; convert it to UTF-8, for example with iconv"
MARKUP = (
    "XML, SGML or HTML; take the sentences out of it, one per line; 'nemo-distill split pairs=...' does this for TMX, "
    "'sacrebleu --echo' for test sets of WMT"
)
# How files begin that hold no pairs, and what they are.
NO_PAIRS = {b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, or pack it by gzip, bzip2 or xz"}
# The same of files that people take for text.
NO_TEXT = {
    **NO_PAIRS,
    b"PK\x03\x04": "a zip archive; unpack it; 'nemo-distill split pairs=...' reads those of OPUS",
    b"PAR1": (
        "a Parquet table; write the sentences of each language to a text file, as 'nemo-distill split pairs=...' does"
    ),
    **dict.fromkeys((b"\xff\xfe", b"\xfe\xff"), UTF16),
    **dict.fromkeys((b"<?xml", b"<tmx", b"<!DOCTYPE", b"<html", b"<srcset", b"<refset"), MARKUP),
}


def data_problems(where: str, section: Mapping[str, Any]) -> list[str]:
    """Returns the problems of a data section's files, one sentence each. Other checks report missing values."""
    if section.get("use_tarred_dataset") and section.get("metadata_file"):
        return _tarred_problems(f"{where}.metadata_file", section["metadata_file"])
    if problems := _name_problems(where, section):
        return problems
    sources, targets = (as_list(section.get(key)) for key in FILE_KEYS)
    if MISSING in sources + targets:
        return []
    problems = []
    if section and not sources:
        problems.append(f"{where}.src_file_name has no value; give it, or leave the section out with '~{where}'.")
    if len(sources) != len(targets):
        problems.append(f"{where} has {len(sources)} source and {len(targets)} target files; the numbers must match.")
    names = section.get("names")
    if names and not len(sources) == len(as_list(names)) == len(set(map(str, as_list(names)))):
        problems.append(f"{where}.names has {names}; {len(sources)} different names are needed, one for each file.")
    if MEAN_OF_SETS in as_list(names) and len(sources) > 1:
        problems.append(f"{where}.names has {names}; '{MEAN_OF_SETS}' is the name of the mean of all sets.")
    for key, paths in zip(FILE_KEYS, (sources, targets)):
        problems += [f"{where}.{key} {problem}." for path in paths for problem in _access_problems(path)]
    for source, target in zip(sources, targets):
        problems += _line_count_problems(where, source, target)
    return problems + (_outdated_ids(where, sources + targets) if section.get("use_cache") else [])


def _outdated_ids(where: str, names: Sequence[str]) -> list[str]:
    """Returns a sentence for each file of ids, which NeMo has kept next to the text, that is older than the text."""
    texts = [user_path(name) for name in names if is_file(name) and is_file(f"{name}.pkl")]
    return [
        f"{where}.use_cache=true: '{text}.pkl' is older than '{text}', and NeMo would train on it; delete it."
        for text in texts
        if user_path(f"{text}.pkl").stat().st_mtime < text.stat().st_mtime
    ]


def _name_problems(where: str, section: Mapping[str, Any]) -> list[str]:
    return [
        f"{where}.{key}={value}: must be a file, or a list of files."
        for key in FILE_KEYS
        if (value := section.get(key)) is not None
        if not isinstance(value, str | list) or not all(isinstance(name, str) for name in as_list(value))
    ]


def _tarred_problems(where: str, metadata: Any) -> list[str]:
    """Returns the problems of tarred data."""
    problems = []
    for path in as_list(metadata):
        if unusable := _access_problems(path):
            problems += [f"{where} {problem}." for problem in unusable]
        elif not _is_metadata(user_path(path)):
            problems.append(f"{where}: '{path}' is not metadata of tarred data, which is JSON with num_batches.")
    return problems


def _is_metadata(path: Path) -> bool:
    try:
        return "num_batches" in json.loads(path.read_bytes())
    except (ValueError, TypeError):
        return False


def untokenized_text(model: Mapping[str, Any]) -> list[str]:
    """Returns warnings if training text is raw although translation tokenizes its input with NeMo's processors."""
    section, corpora = model.get("train_ds") or {}, mix_of(model).get("corpora") or {}
    oddities = []
    sides = (("src", "source"), ("tgt", "target"))
    read = reversed(sides) if section.get("reverse_lang_direction") else sides
    for language, (side, end) in zip(("src_language", "tgt_language"), read):
        if model.get(language) in (None, "ignore"):
            continue
        named = {f"model.distillation.mix.corpora.{name}.{end}": corpus.get(end) for name, corpus in corpora.items()}
        if not (section.get("use_tarred_dataset") and section.get("metadata_file")):
            named[f"model.train_ds.{side}_file_name"] = section.get(f"{side}_file_name")
        for key, value in named.items():
            files = input_files(value)
            if files and _seems_raw(files[0]):
                oddities.append(
                    f"{key}: '{files[0]}' seems to be raw text, but with model.{language}={model[language]} "
                    "translation separates punctuation from words. The model would not have seen such text before. "
                    f"Set model.{language}=ignore, or tokenize the text with Moses before training."
                )
    return oddities


def mix_of(model: Mapping[str, Any]) -> Any:
    """Returns the value of `distillation.mix`; {} if there is none."""
    return (model.get("distillation") or {}).get("mix") or {}


def _seems_raw(path: Path) -> bool:
    """True if most lines end with a word that is directly followed by a full stop."""
    ends = [line.rstrip() for line in itertools.islice(TextFiles([path]), SAMPLED_LINES)]
    attached = sum(bool(ATTACHED_STOP.search(line.decode("utf-8", "replace"))) for line in ends)
    return attached > len(ends) / 2


def copied_text(model: Mapping[str, Any]) -> list[str]:
    """Returns a warning for each file of training text that is given as source and target."""
    section = model.get("train_ds") or {}
    pairs = {"model.train_ds": tuple(section.get(key) for key in FILE_KEYS)}
    for name, corpus in (mix_of(model).get("corpora") or {}).items():
        pairs[f"model.distillation.mix.corpora.{name}"] = corpus.get("source"), corpus.get("target")
    return [copy for where, sides in pairs.items() for copy in copies(where, *map(input_files, sides))]


def copies(where: str, sources: Sequence[Path], targets: Sequence[Path | None]) -> list[str]:
    """Returns a warning for each source file that is its own target file."""
    return [
        f"{where}: '{source}' is source and target, so a model would learn to copy."
        for source, target in zip(sources, targets)
        if source == target
    ]


def unread_files(model: Mapping[str, Any]) -> list[str]:
    """Returns warnings about training text that is too large to check before a job."""
    section = model.get("train_ds") or {}
    return [
        f"model.train_ds.{key}: '{name}' has {size / 1e9:.1f} GB and was not checked; if its lines may contain "
        "characters that count as line ends, or if the two sides may differ in their number of lines, rewrite it with "
        "'nemo-distill mix'."
        for key in FILE_KEYS
        for name in as_list(section.get(key))
        if is_file(name) and (size := user_path(name).stat().st_size) >= LINE_COUNT_LIMIT
    ]


def is_file(path: str | Path) -> bool:
    """True if a path in a config, which may begin with `~`, is a file."""
    return os.path.isfile(user_path(path))  # False also for invalid paths


def text_paths(section: Mapping[str, Any]) -> tuple[list[Path], list[Path]]:
    """Returns the source files and the target files that a data section names."""
    sources, targets = ([user_path(name) for name in as_list(section.get(key))] for key in FILE_KEYS)
    return sources, targets


def text_pairs(section: Mapping[str, Any]) -> list[tuple[Path, Path]]:
    """Returns the source file and the target file of each pair of files, as the model of a data section reads them."""
    sides = text_paths(section)
    return list(zip(*(reversed(sides) if section.get("reverse_lang_direction") else sides)))


def input_files(value: str | list[str] | None) -> list[Path]:
    """Returns the files named by a config value, a path or a list of paths; see `expand_paths`."""
    return [path for pattern in as_list(value) for path in expand_paths(pattern)]


def unreadable_files(
    value: str | list[str],
    may_be_empty: bool = False,
    is_text: bool = True,
    refused: Mapping[bytes, str] = MappingProxyType(NO_TEXT),
) -> list[str]:
    """Returns what keeps the files that a config's value names from being read; the words go on with its key.

    Args:
        is_text: each line is a sentence, so that a table is refused.
        refused: how files begin that are refused, and what they are.
    """
    problems = []
    for pattern in as_list(value):
        if pattern == MISSING:  # another check reports this
            continue
        found = expand_paths(pattern)
        if not found:
            problems.append(f"names '{pattern}', which does not exist")
        for path in found:
            found_in = _access_problems(path, refused) or _damage_problems(path)
            found_in = found_in or (_table_problems(path) or _encoding_problems(path) if is_text else [])
            if not found_in and not may_be_empty and _is_empty(path):
                found_in = [f"names '{path}', which is empty"]
            problems += found_in
    return problems


def _is_empty(path: Path) -> bool:
    """True if a file, plain or packed, has no line."""
    try:
        return next(iter(TextFiles([path])), None) is None
    except DataError:  # told by who reads it
        return False


def _access_problems(path: str | Path, refused: Mapping[bytes, str] = MappingProxyType(NO_TEXT)) -> list[str]:
    """Returns a problem if a file does not exist, cannot be opened, or has a name that no record can hold."""
    file = user_path(path)
    if not is_file(file):
        what = "is a folder" if os.path.isdir(file) else "is a pipe or a device"
        return [f"names '{path}', which {what if os.path.exists(file) else 'does not exist'}"]
    if (name := os.fsencode(file).decode("utf-8", "replace")) != str(file):
        return [f"names '{name}', whose name is not UTF-8; rename it"]
    try:
        with file.open("rb") as stream:
            start = stream.read(32).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        return [f"names '{file}', which cannot be read: {error.strerror}"]
    if pointer := missing_content(file):
        return [f"names a file that is not there: {pointer}"]
    return [f"names '{file}', which is {what}" for begin, what in refused.items() if start.startswith(begin)]


def _damage_problems(path: Path) -> list[str]:
    """Returns a problem if a packed file is damaged. Large files are not checked."""
    with path.open("rb") as stream:
        if not unpacker(stream) or path.stat().st_size > LINE_COUNT_LIMIT // 4:
            return []
    try:
        deque(TextFiles([path]), maxlen=0)
    except DataError as error:
        return [f"names a damaged file: {error}"]
    return []


def _table_problems(path: Path) -> list[str]:
    """Returns a problem if a file is a table, by its name or by its first lines with text: JSON, or as many tabs."""
    try:
        lines = [*itertools.islice(filter(bytes.strip, TextFiles([path])), TABLE_LINES)]
    except DataError:  # told by who reads it
        return []
    tabs = {line.count(b"\t") for line in lines}
    if ".csv" in path.suffixes:  # commas tell nothing: sentences have them
        what = "a table of comma-separated values"
    elif len(lines) < TABLE_LINES:
        return []
    elif all(line.startswith(b"{") and line.rstrip().endswith(b"}") for line in lines):
        what = "of JSON lines"
    elif len(tabs) == 1 and tabs != {0}:
        what = f"a table of {tabs.pop() + 1} columns"
    else:
        return []
    return [
        f"names '{path}', which is {what} and not of one sentence per line; write each language to a file of its own, "
        "as 'nemo-distill split' does"
    ]


def _encoding_problems(path: Path) -> list[str]:
    """Returns a problem if the first lines show that a file is in another encoding than UTF-8.

    Single invalid lines of a file of UTF-8 are left to `LinePolicy`.
    """
    try:
        lines = [*itertools.islice(TextFiles([path]), SAMPLED_LINES)]
    except DataError:  # told by who reads it
        return []
    if sum(b"\0" in line for line in lines) > len(lines) / 2:
        return [f"names '{path}', which is {UTF16}"]
    special = [is_utf8(line) for line in lines if not line.isascii()]
    invalid = special.count(False)
    if invalid < INVALID_LINES or invalid <= len(special) / 2:
        return []
    return [
        f"names '{path}', of whose first {len(lines)} lines {invalid} are not UTF-8; convert it, for example with "
        "'iconv -f latin1 -t utf-8'"
    ]


def _readable(value: Any, **kind: Any) -> Any:
    if problems := unreadable_files([name for name in as_list(value) if name is not None], **kind):
        refuse("; it ".join(problems))
    return value


# A file of a configuration, or a list of files, each of which may be a pattern; they exist and are not empty.
Files = str | list[str]
FILES = Allowed("a file, or a list of files")
InputFiles = Annotated[Files, AfterValidator(_readable), FILES]
NumberFiles = Annotated[Files, AfterValidator(partial(_readable, is_text=False)), FILES]
PairFiles = Annotated[Files, AfterValidator(partial(_readable, is_text=False, refused=NO_PAIRS)), FILES]  # both sides
PossiblyEmptyFiles = Annotated[Files, AfterValidator(partial(_readable, may_be_empty=True)), FILES]
References = Annotated[
    str | list[str | None],
    AfterValidator(_readable),
    Allowed("a file, or a list of files, with null for monolingual text"),
]


def named_files(where: str, value: Any) -> tuple[list[Path], list[str]]:
    """Returns the files named by a config value, and a sentence for each that cannot be read.

    Args:
        value: a path or a list of paths; see `expand_paths`.
    """
    if value is not None and not all(isinstance(pattern, str) for pattern in as_list(value)):
        return [], [f"{where}={value}: must be a file, or a list of files."]
    return input_files(value), [f"{where} {problem}." for problem in unreadable_files(value)]


def not_parallel(sources: Sequence[Path], targets: Sequence[Path]) -> list[str]:
    """Returns a sentence if there are more files of `source` or `target`, or if two of them have unequal lengths."""
    if len(sources) != len(targets):
        return [f"source names {len(sources)} files and target {len(targets)}; the numbers must be equal."]
    return [problem for pair in zip(sources, targets) for problem in unequal_lengths("source", *pair)]


def unequal_lengths(where: str, source: Path, target: Path) -> list[str]:
    """Returns a sentence if two files, plain or packed, are no text or differ in their number of lines.

    Large files are not checked.
    """
    if max(path.stat().st_size for path in (source, target)) > LINE_COUNT_LIMIT // 4:
        return []
    try:
        counts = [sum(1 for _ in TextFiles([path])) for path in (source, target)]
    except DataError as error:
        return [f"{where}: {error}."]
    if counts[0] == counts[1]:
        return []
    return [f"{where}: '{source}' has {counts[0]} lines and '{target}' has {counts[1]}; they must be parallel."]


def unfit_reference(where: str, source: Path, reference: Path) -> list[str]:
    """Returns a sentence if a file cannot be the reference of a source: it is the source, or of another length."""
    if source == reference:
        return [f"{where}: '{reference}' is source and reference; the reference is a translation of the source."]
    return unequal_lengths(where, source, reference)


def as_list(value: Any) -> list[Any]:
    """Returns a config value that may be a single entry, a list or None as a list."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [] if value is None else [value]
    return list(value)


def _line_count_problems(where: str, source: str, target: str) -> list[str]:
    paths = [user_path(source), user_path(target)]
    if any(map(_access_problems, paths)):  # reported already
        return []
    if any(path.stat().st_size >= LINE_COUNT_LIMIT for path in paths):
        return []
    counts, problems = [], []
    for path in paths:
        lines, problem = count_plain_lines(path)
        counts.append(lines)
        found = [f": '{path}' {problem}"] if problem else [f" {table}" for table in _table_problems(path)]
        problems += [f"{where}{one}." for one in found]
    if problems:
        return problems
    if counts[0] != counts[1]:
        return [f"{where}: '{source}' has {counts[0]} lines and '{target}' has {counts[1]}; they must be parallel."]
    return [f"{where}: '{source}' is empty."] if counts[0] == 0 else []
