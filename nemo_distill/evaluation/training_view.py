"""Reads the training text for an explanation: which words of a test set it has, and a sample of its pairs.

The text is read line by line. Memory depends on the test set and the sample only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from nemo_distill.config.errors import DataError
from nemo_distill.failures.segment import ngrams, units
from nemo_distill.storage.ledger import Work, digest_of, fingerprint
from nemo_distill.text.lines import counted_sample, decoded, is_blank, parallel_lines

SPAN = 3  # words of the runs by which a sentence is near to the training text
SEED = 1  # of the sample
REVISION = 1  # increase it when the same text gives other answers


@dataclass(frozen=True)
class TrainingView:
    """Which words of a test set are in the training text, and a sample of its pairs.

    Args:
        pairs: the number of training pairs with text on both sides.
        seen: the runs of words of the test's sources that are in the training sources.
        counts: how often each word of the references is in the training targets.
        sources: the sources of a random sample of pairs.
        labels: their targets.
    """

    pairs: int
    seen: frozenset[str]
    counts: Mapping[str, int]
    sources: Sequence[str]
    labels: Sequence[str]

    def nearness(self, source: str) -> float:
        """Returns the share of a source's runs of three words that the training sources have."""
        found = _runs(source)
        return len(self.seen & found) / len(found) if found else 0.0


def target_words(line: str) -> list[str]:
    """Returns the words of a line in lower case, without punctuation; characters in scripts without spaces."""
    return [unit for unit in units(line) if any(map(str.isalnum, unit))]


def read_training(
    files: Sequence[tuple[Path, Path]], sources: Iterable[str], references: Iterable[str], sample: int, record: Path
) -> TrainingView:
    """Reads the training text, unless the same questions about it were answered before.

    Args:
        files: source and target files, which are parallel.
        sources: the test set's sources.
        references: the test set's references.
        sample: number of pairs in the sample.
        record: where the answers are kept.

    Raises:
        DataError: if a source file has more or fewer lines than its target file.
    """
    runs = {run for source in sources for run in _runs(source)}
    words = {word for reference in references for word in target_words(reference)}
    settings = {
        "files": [[fingerprint(path) for path in pair] for pair in files],
        "asked": digest_of({"runs": sorted(runs), "words": sorted(words)}),
        "sample": sample,
        "revision": REVISION,
    }
    found = Work(record, settings).kept(lambda: _read(files, runs, words, sample))
    return TrainingView(found["pairs"], frozenset(found["seen"]), found["counts"], found["sources"], found["labels"])


def _read(files: Sequence[tuple[Path, Path]], runs: set[str], words: set[str], sample: int) -> dict[str, Any]:
    seen, counts = set[str](), Counter[str]()

    def read_pairs() -> Iterator[tuple[str, str]]:
        for source, label in _pairs(files):
            seen.update(runs.intersection(_runs(source)))
            counts.update(word for word in target_words(label) if word in words)
            yield source, label

    pairs, drawn = counted_sample(read_pairs(), sample, Random(SEED))
    if not drawn:
        raise DataError(f"the training text '{files[0][0]}' has no pair with text on both sides")
    sources, labels = map(list, zip(*drawn))
    return {"pairs": pairs, "seen": sorted(seen), "counts": dict(counts), "sources": sources, "labels": labels}


def _pairs(files: Sequence[tuple[Path, Path]]) -> Iterator[tuple[str, str]]:
    """Yields the pairs with text on both sides."""
    for paths in files:
        for pair in parallel_lines(*paths, label=f"reading {paths[0].name}"):
            source, target = map(decoded, pair)
            if not is_blank(source) and not is_blank(target):
                yield source, target


def _runs(line: str) -> set[str]:
    """Returns the runs of three words of a line; of a shorter line, the line."""
    found = units(line)
    return {" ".join(run) for run in ngrams(found, min(SPAN, len(found)))} if found else set()
