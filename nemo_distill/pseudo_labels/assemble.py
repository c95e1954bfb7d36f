"""Turns shards into training text: selects labels for each line, filters the pairs and writes them.

`pseudo.src` and `pseudo.tgt` contain the pairs in the order of the source. Some files are optional: `pseudo.weights`
(the weight of each pair), `pseudo.dropped.tsv` (the dropped pairs: reason, line, score, source, target) and
`pseudo.hypotheses.tsv` (all hypotheses, for metrics of the user's own). `pseudo.json` is written last and contains
settings, counts and examples.
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import DataError
from nemo_distill.metrics.line_scores import command_fingerprints, read_scores
from nemo_distill.pseudo_labels.corpus_filters import CorpusFilters
from nemo_distill.pseudo_labels.generate import LabelNoise
from nemo_distill.pseudo_labels.judge import Outcome, judge_all
from nemo_distill.pseudo_labels.quality import (
    QualitySettings,
    hypothesis_lines,
    score_files,
    with_scores,
)
from nemo_distill.pseudo_labels.selection import Candidate, Criteria
from nemo_distill.pseudo_labels.shards import LabelFolder, Row, read_rows
from nemo_distill.storage.files import folder_lock, remove_leftovers, whole_file, whole_files, writing
from nemo_distill.storage.ledger import Work, digest_of, fingerprint
from nemo_distill.storage.made_with import used_versions
from nemo_distill.storage.shard_folder import ShardError
from nemo_distill.text.files import input_files
from nemo_distill.text.languages import language_problems, text_language
from nemo_distill.text.lines import LinePolicy, TextFiles, clean_line, line_hash, parallel_lines

ENDINGS = ("src", "tgt", "weights", "dropped.tsv", "hypotheses.tsv")
EXAMPLES = 3  # of each reason for a drop, in the record


@dataclass(frozen=True)
class Assembly:
    """The settings for writing text from a folder of labels.

    Args:
        labels: the labels, whose sources are unchanged since.
        references: the reference file for each source file, or None.
        policy: how invalid lines were treated. It applies to references too.
        more_labels: further labels of the same source, whose hypotheses are added to those of `labels`.
        noise: what was done to the lines before they were translated.
    """

    labels: LabelFolder
    references: Sequence[Path | None]
    policy: LinePolicy
    criteria: Criteria
    name: str = "pseudo"
    keep_dropped: bool = False
    workers: int = 1
    more_labels: Sequence[LabelFolder] = ()
    quality: QualitySettings = field(default_factory=QualitySettings)
    keep_hypotheses: bool = False
    noise: LabelNoise = field(default_factory=LabelNoise)

    @property
    def work(self) -> Work:
        """The record of the text."""
        return Work(self.path("json"), self.settings())

    @property
    def folders(self) -> list[LabelFolder]:
        """All labels."""
        return [self.labels, *self.more_labels]

    def path(self, ending: str) -> Path:
        """Returns the path of the output file with this ending."""
        return self.labels.path / f"{self.name}.{ending}"

    def settings(self) -> dict[str, Any]:
        """Returns all settings that the output files depend on."""
        quality = asdict(self.quality) | {"file": [fingerprint(path) for path in input_files(self.quality.file)]}
        quality |= {"files": command_fingerprints(self.quality.command)} if self.quality.command else {}
        return {
            "labels": self.labels.digest,
            "more_labels": [fingerprint(labels.manifest_path) for labels in self.more_labels],
            "references": [path and fingerprint(path) for path in self.references],
            **asdict(self.criteria),
            "quality": quality if self.quality.is_given else self.criteria.quality,
            "keep_dropped": self.keep_dropped,
            "keep_hypotheses": self.keep_hypotheses,
            **({"noise": asdict(self.noise)} if self.noise.changes_text else {}),
        }

    def source_text(self, number: int, text: str) -> str:
        """Returns the source of a pair from the text of a line."""
        return text if self.noise.written == "clean" else self.noise.of_line(number, text)

    def files(self) -> list[Path]:
        """Returns the output files that are written before the manifest."""
        optional = {
            "weights": self.criteria.label_weights,
            "dropped.tsv": self.keep_dropped,
            "hypotheses.tsv": self.keep_hypotheses,
        }
        return [self.path(ending) for ending in ENDINGS if optional.get(ending, True)]


def assemble(
    assembly: Assembly, overwrite: bool = False, on_line: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Writes the text and returns its manifest. If the same text already exists, only returns the manifest.

    Args:
        overwrite: replace text with the same name and different settings instead of raising an error.

    Raises:
        DataError: if text with other settings exists, or shards, sources and references do not fit together.
    """
    with folder_lock(assembly.labels.path):
        return assembly.work.done(overwrite, assembly.files()) or _assemble(assembly, on_line)


def _assemble(assembly: Assembly, on_line: Callable[[], None]) -> dict[str, Any]:
    for labels in assembly.folders:
        labels.verify()
    folder = assembly.labels.path
    remove_leftovers(folder, *(assembly.path(ending).name for ending in (*ENDINGS, "json")))
    with writing(folder), tempfile.TemporaryFile(dir=folder) as spool:
        corpus_filters = CorpusFilters(assembly.criteria.filters, folder)
        lines = 0
        for outcomes in judge_all(_scored(assembly), _with_language(assembly), assembly.workers):
            for outcome in outcomes:
                spool.write(json.dumps(outcome).encode() + b"\n")
                if not outcome.dropped:
                    corpus_filters.see(outcome)
            lines += 1
            on_line()
        corpus_filters.close()
        spool.seek(0)
        pairs = _write(assembly, (Outcome(*json.loads(line)) for line in spool), corpus_filters)
    if assembly.keep_hypotheses:
        with whole_file(assembly.path("hypotheses.tsv")) as stream:
            stream.writelines(hypothesis_lines(candidates(assembly)))
    return assembly.work.finish(
        {
            "lines": lines,
            **pairs,
            "least_kept": corpus_filters.thresholds(),
            "selected_by": assembly.criteria.selected_by,
            "versions": used_versions(),
            "files": [fingerprint(path) for path in assembly.files()],
        }
    )


def _with_language(assembly: Assembly) -> Criteria:
    """Returns the criteria, with the language of the hypotheses if BLEU needs to know it and nothing else has told it.

    Raises:
        DataError: if sacrebleu lacks a package for the language.
    """
    criteria = assembly.criteria
    if criteria.metric_language or "bleu" not in criteria.compared_by:
        return criteria
    language = text_language(text for candidate in candidates(assembly) for text in candidate.texts[:1])
    if problems := language_problems("metric_language", language):
        raise DataError(problems[0].removesuffix("."))
    return replace(criteria, metric_language=language)


def _scored(assembly: Assembly) -> Iterator[Candidate]:
    """Yields each source line, with the qualities of its hypotheses if there are any."""
    quality, plain = assembly.quality, candidates(assembly)
    if quality.file:
        scores = read_scores(input_files(quality.file), quality.lower_is_better)
        return with_scores(plain, scores, f"quality.file={quality.file}")
    if quality.command:
        kept = assembly.labels.path / "quality" / _scored_digest(assembly)
        paths = score_files(quality.command, kept, lambda: candidates(assembly))
        return with_scores(plain, read_scores(paths, quality.lower_is_better), f"'{kept}'")
    return plain


def _scored_digest(assembly: Assembly) -> str:
    """Returns what identifies the command, the files that it names, and all hypotheses that it scores."""
    labels = [fingerprint(labels.manifest_path)["sha256"] for labels in assembly.folders]
    command = str(assembly.quality.command)
    settings: dict[str, Any] = {"command": command, "files": command_fingerprints(command), "labels": labels}
    settings |= {"noise": asdict(assembly.noise)} if assembly.noise.changes_text else {}
    return digest_of(settings)


def candidates(assembly: Assembly) -> Iterator[Candidate]:
    """Yields each source line with its rows in the shards and its reference.

    Raises:
        ShardError: if a line has changed since it was translated, or has no row.
        DataError: if a reference is not parallel to its source.
    """
    rows = zip_longest(*(read_rows(labels.shards) for labels in assembly.folders))
    number = 0
    for number, (raw, reference) in enumerate(_sources_and_references(assembly), start=1):
        found: tuple[Row | None, ...] = next(rows, (None,))
        theirs = [row for row in found if row is not None and row.hash == line_hash(raw)]
        if len(theirs) < len(found):
            what = "has no row in the shards" if None in found else "has changed since it was translated"
            raise ShardError(f"source line {number}, {_place(assembly.labels.sources, number)}, {what}.")
        cleaned = clean_line(reference, assembly.policy).text if reference is not None else None
        yield Candidate(assembly.source_text(number, clean_line(raw, assembly.policy).text), theirs, cleaned)
    if next(rows, None) is not None:
        raise ShardError(f"the shards go on after the last source line, {number}.")


def _sources_and_references(assembly: Assembly) -> Iterator[tuple[bytes, bytes | None]]:
    for source, reference in zip(assembly.labels.sources, assembly.references, strict=True):
        if reference is None:
            yield from ((raw, None) for raw in TextFiles([source]))
        else:
            yield from parallel_lines(source, reference)


def _place(sources: Sequence[Path], number: int) -> str:
    """Returns the file and line of a line number that counts through all sources."""
    for source in sources:
        lines = sum(1 for _ in TextFiles([source]))
        if number <= lines:
            break
        number -= lines
    return f"'{source}' line {number}"


def _write(assembly: Assembly, outcomes: Iterator[Outcome], corpus_filters: CorpusFilters) -> dict[str, Any]:
    """Writes the files of pairs, and returns the counts and examples for the record."""
    counts: Counter[str | None] = Counter()
    examples: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    paths = [path for path in assembly.files() if path != assembly.path("hypotheses.tsv")]
    every = [assembly.path(ending) for ending in ENDINGS]
    with whole_files(paths, outdated=(assembly.work.finished_path, *every)) as opened:
        streams = {path.name.removeprefix(f"{assembly.name}."): stream for path, stream in zip(paths, opened)}
        for outcome, reason in _judged(outcomes, corpus_filters):
            counts[reason] += 1
            for ending, text in _texts(outcome, reason).items():
                if ending in streams:
                    streams[ending].write(text.encode() + b"\n")
            if reason and len(examples[reason]) < EXAMPLES:
                examples[reason].append({key: getattr(outcome, key) for key in ("line", "source", "target")})
    kept = counts.pop(None, 0)
    return {"kept": kept, "dropped": dict(sorted(counts.items())), "examples": dict(sorted(examples.items()))}


def _judged(outcomes: Iterator[Outcome], corpus_filters: CorpusFilters) -> Iterator[tuple[Outcome, str | None]]:
    """Yields each outcome and why it is dropped, if so. The weights of a line's labels that are kept sum to 1."""
    for _, of_line in groupby(outcomes, key=lambda outcome: outcome.line):
        judged = [(outcome, outcome.dropped or corpus_filters.reason(outcome)) for outcome in of_line]
        total = sum(outcome.weight for outcome, reason in judged if reason is None)
        yield from ((one._replace(weight=one.weight / total) if total else one, reason) for one, reason in judged)


def _texts(outcome: Outcome, reason: str | None) -> dict[str, str]:
    """Returns the line that a pair, or a drop for a reason, has in each file, by its ending."""
    if reason is None:
        return {"src": outcome.source, "tgt": outcome.target, "weights": f"{outcome.weight:.6f}"}
    columns = (reason, str(outcome.line), f"{outcome.score:.4f}", outcome.source, outcome.target)
    return {"dropped.tsv": "\t".join(columns)}
