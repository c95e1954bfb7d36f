"""Generation: the shards of a source, one after the other, by as many processes as there are.

A shard depends on its lines and the settings alone, so that whoever makes it, and however often the job was killed, it
is the same bytes. Each process reads all of the source, which is quick, and translates every n-th shard. Processes
need nothing from each other; the one that finds all shards there writes the manifest.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from nemo_distill.config.errors import DataError
from nemo_distill.decoding.engine import EMPTY, Engine, Translation
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.pseudo_labels.folder import LabelFolder
from nemo_distill.pseudo_labels.shards import Header, Row, count_rows, write_shard
from nemo_distill.text.lines import Line, LinePolicy, TextFiles, clean_line, line_hash

# From the number of the first line and the lines' text to their translations.
Translate = Callable[[int, Sequence[str]], list[Translation]]
# Called with the position in the source, in bytes, and the lines that were translated since the last call.
OnProgress = Callable[[float, int], None]


class Scorer(Protocol):
    """A model of the reverse direction, which tells how likely a source is given a translation of it."""

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        """Returns for each pair the mean log-probability of a target token, the sentence's end included.

        What it gives for a pair must not depend on the pairs beside it.
        """


@dataclass(frozen=True)
class Translator:
    """What makes rows of lines.

    Args:
        translate: returns the translations of texts, given the number of the first line; those that are left out are
            empty.
        policy: what is done with odd lines.
        reverse: scores the hypotheses, if there is one.
    """

    translate: Translate
    policy: LinePolicy
    reverse: Scorer | None = None

    def rows(self, first_line: int, raw_lines: Sequence[bytes]) -> list[Row]:
        """Returns the rows of lines that are numbered from `first_line` on."""
        lines = [clean_line(raw, self.policy) for raw in raw_lines]
        translations = self.translate(first_line, [line.text for line in lines])
        if len(translations) != len(lines):
            raise DataError(f"the engine gave {len(translations)} translations of {len(lines)} lines")
        rows = []
        for number, (raw, line, translation) in enumerate(zip(raw_lines, lines, translations), start=first_line):
            hypotheses = (translation.hypotheses or EMPTY.hypotheses) if line.text else ()
            rows.append(Row(number, line_hash(raw), hypotheses, line.oddity, translation.source_cut))
        return _with_reverse_scores(rows, lines, self.reverse) if self.reverse else rows


def _with_reverse_scores(rows: Sequence[Row], lines: Sequence[Line], reverse: Scorer) -> list[Row]:
    pairs = [(hypothesis.text, line.text) for row, line in zip(rows, lines) for hypothesis in row.hypotheses]
    scores = iter(reverse.score([pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    return [replace(row, reverse_scores=tuple(islice(scores, len(row.hypotheses)))) for row in rows]


def searching(engine: Engine, search: SearchSettings) -> Translate:
    """Returns a `Translator.translate` that lets an engine search."""
    return lambda first_line, texts: engine.translate(texts, search)


@dataclass(frozen=True)
class Generation:
    """What is to be translated, and where to.

    Args:
        sources: files, whose lines are numbered through.
        folder: for the shards.
        shard_lines: source lines in a shard; they are held in memory, and are what a killed process loses at most.
        chunk_lines: lines that the translator is given at a time.
    """

    sources: Sequence[Path]
    folder: LabelFolder
    shard_lines: int
    chunk_lines: int


def generate(
    generation: Generation,
    build_translator: Callable[[], Translator],
    rank: int = 0,
    world_size: int = 1,
    overwrite: bool = False,
    on_progress: OnProgress = lambda position, lines: None,
) -> dict[str, Any] | None:
    """Makes this process's shards, apart from those that are there, and closes the folder if no others are missing.

    Args:
        generation: what to do.
        build_translator: called if there is something to translate.
        rank: this process's number, from 0.
        world_size: how many processes do the same.
        overwrite: delete what other settings have left in the folder, rather than refuse.
        on_progress: see `OnProgress`.

    Returns:
        The manifest, or None if other processes still make shards.
    """
    folder, files, translator = generation.folder, TextFiles(generation.sources), None
    folder.take(overwrite)
    if manifest := folder.manifest():
        return manifest
    shards, begin = 0, 0
    for index, raw_lines in enumerate(_batches(files, generation.shard_lines)):
        if folder.lacks(index, rank, world_size):
            translator = translator or build_translator()
            _make_shard(
                generation, index, raw_lines, translator, partial(_between, on_progress, begin, files.position)
            )
        shards, begin = index + 1, files.position
        on_progress(begin, 0)
    return folder.close(shards)


def _make_shard(
    generation: Generation,
    index: int,
    raw_lines: Sequence[bytes],
    translator: Translator,
    on_chunk: Callable[[float, int], None],
) -> None:
    first_line = index * generation.shard_lines + 1
    rows = []
    for start in range(0, len(raw_lines), generation.chunk_lines):
        chunk = raw_lines[start : start + generation.chunk_lines]
        rows += translator.rows(first_line + start, chunk)
        on_chunk(len(rows) / len(raw_lines), len(chunk))
    header = Header(index, first_line, len(rows), generation.folder.digest, count_rows(rows))
    write_shard(generation.folder.shard(index), header, rows)


def _between(on_progress: OnProgress, begin: int, end: int, share: float, lines: int) -> None:
    on_progress(begin + share * (end - begin), lines)


def _batches(lines: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    lines = iter(lines)
    while batch := list(islice(lines, size)):
        yield batch
