"""Translates the sources shard by shard, in one or more processes.

A shard depends only on its lines and the settings. Its bytes are the same no matter which process writes it or how
often the job was interrupted. Each process reads the whole source, which is fast, and translates its own part of the
shards. The processes do not communicate. The one that finds all shards complete writes the manifest.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from random import Random
from typing import Any, Literal, Protocol

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import changed, section
from nemo_distill.decoding.engine import EMPTY, Engine, Translation
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.pseudo_labels.shards import Header, LabelFolder, Row, count_rows, write_shard
from nemo_distill.text.lines import Line, LinePolicy, TextFiles, chunks, clean_line, line_hash
from nemo_distill.text.text_noise import TextNoise


@section
class LabelNoise(TextNoise):
    """Noise of the source before the teacher reads it."""

    seed: int = 0
    """The same seed gives each line the same noise."""
    written: Literal["noised", "clean"] = "noised"
    """The source in `pseudo.src`, next to the translation of the noised source."""

    def problems(self) -> list[str]:
        """Returns a sentence for each key that has no effect, because there is no noise."""
        if self.changes_text:
            return []
        return [
            f"{key}={value} has no effect without noise, such as typing=0.05."
            for key, value in changed(self, "seed", "written").items()
        ]

    def decisive(self) -> dict[str, Any]:
        """Returns what the translations depend on."""
        return {key: value for key, value in asdict(self).items() if key != "written"}

    def of_line(self, number: int, text: str) -> str:
        """Returns a line with noise that depends on the seed and the number of the line only."""
        words = text.split() if self.changes_text else []
        noisy = list(self.of_text(words, Random(f"{self.seed} {number}")))
        return text if noisy == words else " ".join(noisy)


@dataclass(frozen=True)
class Failure:
    """In place of a translation: why there is none, one of `FAILURES`."""

    reason: str


# From the number of the first line and the texts of the lines to their translations.
Translate = Callable[[int, Sequence[str]], Sequence[Translation | Failure]]
# Called with the position in the source, in bytes, and the number of lines translated since the last call.
OnProgress = Callable[[float, int], None]


class Scorer(Protocol):
    """A model for the reverse direction. It scores a source given its translation."""

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        """Returns the mean log-probability per target token for each pair, including the end of sentence.

        The result for a pair must not depend on the other pairs.
        """


@dataclass(frozen=True)
class Translator:
    """Creates the rows of a shard from source lines.

    Args:
        translate: translates texts, given the number of the first line. Dropped lines are passed as empty texts.
        reverse: scores the hypotheses; optional.
        noise: what is done to the lines before they are translated.
    """

    translate: Translate
    policy: LinePolicy
    reverse: Scorer | None = None
    noise: LabelNoise = field(default_factory=LabelNoise)

    def rows(self, first_line: int, raw_lines: Sequence[bytes]) -> list[Row]:
        """Returns the rows of lines that are numbered from `first_line`."""
        clean = (clean_line(raw, self.policy) for raw in raw_lines)
        lines = [
            replace(line, text=self.noise.of_line(number, line.text)) for number, line in enumerate(clean, first_line)
        ]
        translations = self.translate(first_line, [line.text for line in lines])
        if len(translations) != len(lines):
            raise DataError(f"the engine gave {len(translations)} translations of {len(lines)} lines")
        rows = []
        for number, (raw, line, translation) in enumerate(zip(raw_lines, lines, translations), start=first_line):
            rows.append(_row(number, raw, line, translation))
        return _with_reverse_scores(rows, lines, self.reverse) if self.reverse else rows


def _row(number: int, raw: bytes, line: Line, translation: Translation | Failure) -> Row:
    if not line.text:
        return Row(number, line_hash(raw), (), line.oddity)
    if isinstance(translation, Failure):
        return Row(number, line_hash(raw), (), line.oddity, failure=translation.reason)
    hypotheses = translation.hypotheses or EMPTY.hypotheses
    return Row(number, line_hash(raw), hypotheses, line.oddity, translation.source_cut)


def _with_reverse_scores(rows: Sequence[Row], lines: Sequence[Line], reverse: Scorer) -> list[Row]:
    pairs = [(hypothesis.text, line.text) for row, line in zip(rows, lines) for hypothesis in row.hypotheses]
    scores = iter(reverse.score([pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    return [replace(row, reverse_scores=tuple(islice(scores, len(row.hypotheses)))) for row in rows]


def searching(engine: Engine, search: SearchSettings) -> Translate:
    """Returns a `Translator.translate` function that uses an engine."""
    return lambda first_line, texts: engine.translate(texts, search)


def generate(
    folder: LabelFolder,
    shard_lines: int,
    chunk_lines: int,
    build_translator: Callable[[], Translator],
    rank: int = 0,
    world_size: int = 1,
    overwrite: bool = False,
    on_progress: OnProgress = lambda position, lines: None,
) -> dict[str, Any] | None:
    """Writes the missing shards of this process, and closes the folder if all shards are complete.

    Args:
        folder: the folder, whose sources are translated. Their lines are numbered through all files.
        shard_lines: source lines per shard. They are kept in memory, and a killed process loses at most this many.
        chunk_lines: number of lines passed to the translator at a time.
        build_translator: creates the translator. Called only if there is something to translate.
        overwrite: delete results with other settings instead of raising an error.

    Returns:
        The manifest, or None if other processes are still writing shards.
    """
    files, translator = TextFiles(folder.sources), None
    folder.take(overwrite)
    if manifest := folder.manifest():
        return manifest
    shards, begin = 0, 0
    for index, raw_lines in enumerate(chunks(files, shard_lines)):
        if folder.lacks(index, rank, world_size):
            translator = translator or build_translator()
            first_line, rows = index * shard_lines + 1, list[Row]()
            for chunk in chunks(raw_lines, chunk_lines):
                rows += translator.rows(first_line + len(rows), chunk)
                share = len(rows) / len(raw_lines)
                on_progress(begin + share * (files.position - begin), len(chunk))
            header = Header(index, first_line, len(rows), folder.digest, count_rows(rows))
            with folder.held():
                write_shard(folder.shard(index), header, rows)
        shards, begin = index + 1, files.position
        on_progress(begin, 0)
    return folder.close(shards)
