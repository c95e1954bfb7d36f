"""Splits parallel text into pairs to train on and sets that are held out of it.

Validation and test scores are too high if training has seen the sentences. Therefore no pair to train on has the
source or the target of a held-out pair, and no held-out pair that of another one. Sentences that differ only in case,
punctuation and spaces count as one.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from heapq import heappush, heappushpop
from pathlib import Path
from typing import Any, NamedTuple

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import locked, remove_leftovers, whole_files
from nemo_distill.storage.ledger import Work, fingerprint, written_files
from nemo_distill.storage.records import read_json
from nemo_distill.text.batches import dropped_in_words
from nemo_distill.text.duplicates import Duplicates
from nemo_distill.text.languages import is_spaceless
from nemo_distill.text.lines import LinePolicy, TextFiles, clean_pair, decoded, is_blank, normalized, parallel_lines
from nemo_distill.text.pair_files import read_pairs
from nemo_distill.text.selected_by import SPLIT_RECORD, TextRecord, selected_by

TRAIN = "train"
DRAWN = 4, 1000  # so many times the held-out pairs, and so many more, are drawn: some share a target with another


@dataclass(frozen=True)
class Split:
    """Parallel text and what to hold out of it.

    Args:
        sources: source files, plain or packed; with `fields`, files that hold both sides.
        targets: the target file for each source file; with `fields`, none.
        output: the folder, which gets two files for `train` and for each held-out set, and the record `split.json`.
        endings: of the source and the target files.
        held_out: the number of pairs of each held-out set, by its name.
        policy: how to treat invalid lines. A pair is left out if one of its lines is dropped.
        unseen: files in either language, such as public test sets. No pair has one of their lines.
        max_words: words on each side; None: any number. In text without spaces, two characters count as a word.
        duplicates: leave out pairs that repeat an earlier one.
        seed: random seed for the selection of the held-out pairs.
        fields: of source and target in files that hold both; see `read_pairs`.
    """

    sources: Sequence[Path]
    targets: Sequence[Path]
    output: Path
    endings: tuple[str, str]
    held_out: Mapping[str, int]
    policy: LinePolicy
    unseen: Sequence[Path] = ()
    max_words: int | None = None
    duplicates: bool = True
    seed: int = 0
    fields: Sequence[str] = ()

    def raw_pairs(self, left_out: Counter[str] | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Yields the pairs as they are in the files.

        Args:
            left_out: counts the rows that are no pairs.
        """
        for number, source in enumerate(self.sources):
            if self.fields:
                yield from read_pairs(source, self.fields, Counter() if left_out is None else left_out)
            else:
                yield from parallel_lines(source, self.targets[number])

    def paths(self, name: str) -> list[Path]:
        """Returns the source and the target file of `train` or of a held-out set."""
        return [self.output / f"{name}.{ending}" for ending in self.endings]

    @property
    def texts(self) -> list[Path]:
        """All files but the record."""
        return [path for name in (TRAIN, *self.held_out) for path in self.paths(name)]

    def replaced(self) -> list[Path]:
        """Returns all files that writing replaces or deletes, those of an earlier split among them.

        Raises:
            DataError: if there is a record that cannot be read.
        """
        record = self.output / SPLIT_RECORD
        earlier = (read_json(record, TextRecord) or {}).get("files", [])
        return list(dict.fromkeys([record, *self.texts, *(self.output / Path(file["name"]).name for file in earlier)]))

    @property
    def work(self) -> Work:
        """The record of the split."""
        return Work(self.output / SPLIT_RECORD, self.settings())

    def settings(self) -> dict[str, Any]:
        """Returns all settings that the output files depend on."""
        files = {"sources": self.sources, "targets": self.targets, "unseen": self.unseen}
        return {
            **{name: [fingerprint(path) for path in paths] for name, paths in files.items()},
            "endings": self.endings,
            "held_out": dict(self.held_out),
            "max_words": self.max_words,
            "duplicates": self.duplicates,
            "seed": self.seed,
            "reading": asdict(self.policy),
            **({"fields": list(self.fields)} if self.fields else {}),
        }


class Pair(NamedTuple):
    """A cleaned pair and its number in the text."""

    number: int
    source: str
    target: str

    def sentences(self) -> set[tuple[int, str]]:
        """Returns what another pair must not have: each side's number and what is compared of it."""
        return {(side, normalized(text)) for side, text in enumerate((self.source, self.target))}


def write_split(
    split: Split, overwrite: bool = False, on_line: Callable[[int, int], None] = lambda line, lines: None
) -> dict[str, Any]:
    """Writes the split and returns its record. If the same split already exists, only returns the record.

    The record has the number of pairs of each set as `pairs`, and the numbers left out, by reason, as `left_out`.
    Another process that writes into the folder waits.

    Args:
        split: the split to write.
        overwrite: replace a split with other settings instead of raising an error.
        on_line: called for each line that is read, twice in all, with its number and the final number.

    Raises:
        DataError: if a split with other settings exists, files are not parallel, too few pairs can be held out, or no
            other is left to train on.
    """
    if record := split.work.done(overwrite, split.texts):
        return record
    lines = 2 * sum(1 for _ in (split.raw_pairs() if split.fields else TextFiles(split.sources)))
    plan = _plan(split, lambda number: on_line(number, lines))
    split.output.mkdir(parents=True, exist_ok=True)
    with locked(split.output / ".split.lock"):
        record = split.work.done(overwrite, split.texts)
        return record or _write(split, plan, lambda number: on_line(lines // 2 + number, lines))


class _Plan(NamedTuple):
    """Which pairs are held out, and what says which others are left out."""

    held_out: Mapping[int, str]  # a pair's number: the name of its set
    sentences: set[tuple[int, str]]  # of all held-out pairs
    unseen: set[str]
    duplicates: Duplicates | None


def _plan(split: Split, on_line: Callable[[int], None]) -> _Plan:
    unseen = {normalized(text) for raw in TextFiles(split.unseen) if not is_blank(text := decoded(raw))}
    there = next(folder for folder in (split.output, *split.output.absolute().parents) if folder.is_dir())
    duplicates = Duplicates(there) if split.duplicates else None
    wanted, left_out = sum(split.held_out.values()), Counter[str]()
    usable = _usable_pairs(split, unseen, left_out, on_line, duplicates)
    drawn = _drawn(usable, DRAWN[0] * wanted + DRAWN[1], split.seed)
    if duplicates:
        duplicates.close()
    names = [name for name, count in split.held_out.items() for _ in range(count)]
    held_out: dict[int, str] = {}
    taken: set[tuple[int, str]] = set()
    for pair in drawn:
        sentences = pair.sentences()
        if len(held_out) == wanted:
            break
        if not taken & sentences:
            held_out[pair.number] = names[len(held_out)]
            taken |= sentences
    if len(held_out) < wanted:
        unusable = f"; left out before were {dropped_in_words(left_out)}" if left_out else ""
        raise DataError(
            f"held_out: {wanted:,} pairs are asked for, and only {len(held_out):,} of {len(drawn):,} that were drawn, "
            f"of different sources, share no sentence with another{unusable}"
        )
    return _Plan(held_out, taken, unseen, duplicates)


def _drawn(pairs: Iterator[Pair], count: int, seed: int) -> list[Pair]:
    """Returns pairs of `count` different sources, or of all if there are fewer, in random order.

    They have the lowest hashes of all sources (bottom-k sampling), so that it does not matter how often one occurs.
    """
    drawn: list[tuple[int, Pair]] = []  # a heap, which begins with the highest hash
    hashes: set[int] = set()
    for pair in pairs:
        digest = hashlib.blake2b(f"{seed}\t{normalized(pair.source)}".encode(), digest_size=8).digest()
        key = -int.from_bytes(digest)
        if key in hashes or (len(drawn) == count and key < drawn[0][0]):
            continue
        hashes.add(key)
        if len(drawn) < count:
            heappush(drawn, (key, pair))
        else:
            hashes.remove(heappushpop(drawn, (key, pair))[0])
    return [pair for _, pair in sorted(drawn, reverse=True)]


def _usable_pairs(
    split: Split,
    unseen: set[str],
    left_out: Counter[str],
    on_line: Callable[[int], None],
    duplicates: Duplicates | None = None,
) -> Iterator[Pair]:
    """Yields the pairs that can be used on their own account, and counts the others by reason.

    Args:
        duplicates: sees the pairs.
    """
    for number, raw in enumerate(split.raw_pairs(left_out), start=1):
        on_line(number)
        texts = clean_pair(raw, split.policy, left_out)
        if texts is None:
            continue
        pair = Pair(number, *texts)
        if split.max_words and any(_words(text) > split.max_words for text in texts):
            left_out["too_many_words"] += 1
        elif unseen and not unseen.isdisjoint(text for _, text in pair.sentences()):
            left_out["unseen"] += 1
        else:
            if duplicates:
                duplicates.see(*pair)
            yield pair


def _words(text: str) -> float:
    pieces = text.split()
    return sum(map(len, pieces)) / 2 if is_spaceless(text) else len(pieces)


def _write(split: Split, plan: _Plan, on_line: Callable[[int], None]) -> dict[str, Any]:
    remove_leftovers(split.output, split.work.finished_path.name, *(path.name for path in split.texts))
    left_out: Counter[str] = Counter()
    pairs = dict.fromkeys((TRAIN, *split.held_out), 0)
    with whole_files(split.texts, outdated=split.replaced()) as streams:
        of_set = dict(zip(pairs, zip(streams[::2], streams[1::2])))
        for pair in _usable_pairs(split, plan.unseen, left_out, on_line):
            name = plan.held_out.get(pair.number, TRAIN)
            if plan.duplicates and plan.duplicates.drops(pair.number):
                left_out["duplicates"] += 1
            elif name == TRAIN and not plan.sentences.isdisjoint(pair.sentences()):
                left_out["sentence_is_held_out"] += 1
            else:
                pairs[name] += 1
                for stream, text in zip(of_set[name], pair[1:]):
                    stream.write(text.encode() + b"\n")
        if not pairs[TRAIN]:
            others = f"; left out are {dropped_in_words(left_out)}" if left_out else ""
            raise DataError(
                f"held_out: all {sum(pairs.values()):,} pairs are held out, and none is left to train on{others}"
            )
        files = written_files(split.texts, streams)
    selected = selected_by(split.targets)
    return split.work.finish(
        {"pairs": pairs, "left_out": dict(sorted(left_out.items())), "selected_by": selected, "files": files}
    )
