"""Counts the test sentences that are also in the training text. Scores on them say little about other text."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nemo_distill.storage.ledger import Work, fingerprint
from nemo_distill.text.lines import TextFiles, decoded, is_blank, lines_with_progress, normalized

REVISION = 1  # increase it when other sentences count as equal, so that stored counts are not used
Seen = dict[str, dict[str, int]]  # how many `sources` and `references` of each test set


def seen_sentences(
    sets: Mapping[str, Mapping[str, Path]], training: Mapping[str, Sequence[Path]], record: Path
) -> Seen:
    """Returns how many sentences of each test set the training text has on the same side.

    Sentences that differ only in case, punctuation and spaces count as one. The training text is read once, line by
    line, and only again if it or the test sets have changed.

    Args:
        sets: of each test set, the files of `sources` and `references`, one sentence per line.
        training: the files of the same sides.
        record: where the counts are kept.
    """
    settings = {
        "sets": {name: {side: fingerprint(path) for side, path in one.items()} for name, one in sets.items()},
        "training": {side: [fingerprint(path) for path in paths] for side, paths in training.items()},
        "revision": REVISION,
    }
    return Work(record, settings).kept(lambda: {"seen": _counted(sets, training)})["seen"]


def _counted(sets: Mapping[str, Mapping[str, Path]], training: Mapping[str, Sequence[Path]]) -> Seen:
    found: Seen = {name: {} for name in sets}
    for side, paths in training.items():
        asked = {name: [*_sentences(TextFiles([one[side]]))] for name, one in sets.items()}
        seen = _in_text({sentence for sentences in asked.values() for sentence in sentences}, paths)
        for name, sentences in asked.items():
            found[name][side] = sum(sentence in seen for sentence in sentences)
    return found


def _in_text(asked: set[str], paths: Sequence[Path]) -> set[str]:
    """Returns those of the sentences that are in the files."""
    seen: set[str] = set()
    for path in paths:
        lines = lines_with_progress(path, f"looking for test sentences in {path.name}")
        seen.update(sentence for sentence in _sentences(lines) if sentence in asked)
    return seen


def _sentences(lines: Iterable[bytes]) -> Iterable[str]:
    return (normalized(line) for line in map(decoded, lines) if not is_blank(line))
