"""Turns shards into training text: selects a hypothesis for each line, filters the pairs and writes them.

`pseudo.src` and `pseudo.tgt` contain the pairs in the order of the source. `pseudo.dropped.tsv` is optional and
contains the dropped pairs: reason, line, score, source, target. `pseudo.json` is written last and contains settings
and counts.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nemo_distill.pseudo_labels.folder import LabelFolder
from nemo_distill.pseudo_labels.judge import Candidate, Criteria, Outcome, judge_all
from nemo_distill.pseudo_labels.ranking import Ranking
from nemo_distill.pseudo_labels.shards import read_rows
from nemo_distill.storage.files import folder_lock, remove_leftovers, whole_files, writing
from nemo_distill.storage.ledger import Work, fingerprint
from nemo_distill.storage.shard_folder import ShardError, used_versions
from nemo_distill.text.lines import LinePolicy, TextFiles, clean_line, line_hash, parallel_lines

ENDINGS = ("src", "tgt", "dropped.tsv")


@dataclass(frozen=True)
class Assembly:
    """The settings for writing text from a folder of labels.

    Args:
        labels: the folder.
        sources: the translated files, unchanged since.
        references: the reference file for each source file, or None.
        policy: how invalid lines were treated. It applies to references too.
        criteria: how labels are selected and filtered.
        name: the prefix of the output files.
        keep_dropped: write the dropped pairs to a file, with the reasons.
        workers: number of processes for selecting and filtering.
    """

    labels: LabelFolder
    sources: Sequence[Path]
    references: Sequence[Path | None]
    policy: LinePolicy
    criteria: Criteria
    name: str = "pseudo"
    keep_dropped: bool = False
    workers: int = 1

    @property
    def work(self) -> Work:
        """The record of the text."""
        return Work(self.labels.path / f"{self.name}.json", self.settings())

    def settings(self) -> dict[str, Any]:
        """Returns all settings that the output files depend on."""
        return {
            "labels": self.labels.digest,
            "references": [path and fingerprint(path) for path in self.references],
            **asdict(self.criteria),
            "keep_dropped": self.keep_dropped,
        }

    def files(self) -> list[Path]:
        """Returns the output files that are written before the manifest."""
        endings = ENDINGS if self.keep_dropped else ENDINGS[:2]
        return [self.labels.path / f"{self.name}.{ending}" for ending in endings]


def assemble(
    assembly: Assembly, overwrite: bool = False, on_line: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Writes the text and returns its manifest. If the same text already exists, only returns the manifest.

    Args:
        assembly: the text to write.
        overwrite: replace text with the same name and different settings instead of raising an error.
        on_line: called for each source line.

    Raises:
        DataError: if text with other settings exists, or shards, sources and references do not fit together.
    """
    with folder_lock(assembly.labels.path):
        record = assembly.work.done(overwrite)
        if record and all(path.is_file() for path in assembly.files()):
            return record
        return _assemble(assembly, on_line)


def _assemble(assembly: Assembly, on_line: Callable[[], None]) -> dict[str, Any]:
    assembly.labels.verify()
    folder = assembly.labels.path
    remove_leftovers(folder, f"{assembly.name}.*")
    with writing(folder), tempfile.TemporaryFile(dir=folder) as spool:
        ranking = Ranking(assembly.criteria.filters, folder)
        for outcome in judge_all(candidates(assembly), assembly.criteria, assembly.workers):
            spool.write(json.dumps(outcome).encode() + b"\n")
            if not outcome.dropped:
                ranking.see(outcome)
            on_line()
        ranking.close()
        spool.seek(0)
        counts = _write(assembly, (Outcome(*json.loads(line)) for line in spool), ranking)
    return assembly.work.finish(_result(assembly, counts, ranking.thresholds()))


def candidates(assembly: Assembly) -> Iterator[Candidate]:
    """Yields each source line with its row in the shards and its reference.

    Raises:
        ShardError: if a line has changed since it was translated, or has no row.
        DataError: if a reference is not parallel to its source.
    """
    rows = read_rows(assembly.labels.shards)
    number = 0
    for number, (raw, reference) in enumerate(_sources_and_references(assembly), start=1):
        row = next(rows, None)
        if row is None or row.hash != line_hash(raw):
            what = "has no row in the shards" if row is None else "has changed since it was translated"
            raise ShardError(f"source line {number}, {_place(assembly.sources, number)}, {what}.")
        cleaned = clean_line(reference, assembly.policy).text if reference is not None else None
        yield Candidate(clean_line(raw, assembly.policy).text, row, cleaned)
    if next(rows, None) is not None:
        raise ShardError(f"the shards go on after the last source line, {number}.")


def _sources_and_references(assembly: Assembly) -> Iterator[tuple[bytes, bytes | None]]:
    for source, reference in zip(assembly.sources, assembly.references, strict=True):
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


def _write(assembly: Assembly, outcomes: Iterator[Outcome], ranking: Ranking) -> Counter:
    counts: Counter[str | None] = Counter()
    every = [assembly.labels.path / f"{assembly.name}.{ending}" for ending in ENDINGS]
    with whole_files(assembly.files(), outdated=(assembly.work.finished_path, *every)) as (source, target, *dropped):
        for outcome in outcomes:
            reason = outcome.dropped or ranking.reason(outcome)
            counts[reason] += 1
            if reason is None:
                source.write(outcome.source.encode() + b"\n")
                target.write(outcome.target.encode() + b"\n")
            elif dropped:
                _write_dropped(dropped[0], reason, outcome)
    return counts


def _write_dropped(stream: BinaryIO, reason: str, outcome: Outcome) -> None:
    columns = (reason, str(outcome.line), f"{outcome.score:.4f}", outcome.source, outcome.target)
    stream.write("\t".join(columns).encode() + b"\n")


def _result(assembly: Assembly, counts: Counter, thresholds: Mapping[str, Any]) -> dict[str, Any]:
    kept = counts.pop(None, 0)
    return {
        "lines": kept + counts.total(),
        "kept": kept,
        "dropped": dict(sorted(counts.items())),
        "least_kept": dict(thresholds),
        "versions": used_versions(),
        "files": [fingerprint(path) for path in assembly.files()],
    }
