"""Mixes parallel corpora in given proportions into one pair of files.

NeMo's plain loader sorts all sentences by length and forms fixed batches. Its preprocessing for tarred data splits the
file into consecutive parts. For both, nearly every batch has the right proportions if each part of the file has them.
Therefore the corpora are interleaved line by line, each in its own order. Each corpus gets its exact share of lines.
If a corpus is needed 2.3 times, all its pairs occur twice, and 30 % of them, selected by the seed, a third time. If a
corpus has weights, its pairs occur in proportion to them instead; the corpus still gets its exact share of lines. With
`weighting="loss"`, pairs occur equally often, and a third file has the weights that a training gives to their losses.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import locked, remove_leftovers, whole_files
from nemo_distill.storage.ledger import Work, fingerprint, written_files
from nemo_distill.text.lines import LinePolicy, TextFiles, clean_pair, parallel_lines
from nemo_distill.text.selected_by import selected_by

Item = TypeVar("Item")
ENDINGS = ("json", "src", "tgt", "weights")  # of all files of a mix
WEIGHT_UNIT = 1e-6  # weights are rounded to it


@dataclass(frozen=True)
class Corpus:
    """A parallel corpus in a mix.

    Args:
        sources: source files, plain or packed.
        targets: the target file for each source file.
        share: share of the lines in the mix, relative to the other corpora.
        fraction: fraction of the corpus to use; the seed selects the pairs.
        weights: for each source file a file with the weight of each pair, a number per line; empty: equal weights.
        tag: text in front of each source line, with a space between; empty: none.
    """

    sources: Sequence[Path]
    targets: Sequence[Path]
    share: float
    fraction: float = 1.0
    weights: Sequence[Path] = ()
    tag: str = ""

    def settings(self) -> dict[str, Any]:
        """Returns the settings of the corpus without its files."""
        return {"share": self.share, "fraction": self.fraction} | ({"tag": self.tag} if self.tag else {})


@dataclass(frozen=True)
class Mix:
    """A mix of corpora.

    Args:
        corpora: the corpora by name.
        output: the prefix of the output files: `mixed` gives `mixed.src`, `mixed.tgt`, perhaps `mixed.weights`, and
            the record `mixed.json`.
        policy: how to treat invalid lines. A pair is dropped if one of its lines is dropped.
        seed: random seed for the selection of pairs.
        lines: number of lines in the mix; None: enough to contain every pair of `base` once.
        base: a corpus name; None: the corpus that is repeated least, so that the mix contains every pair of each.
        weighting: with `pairs`, weights say how often a pair occurs; with `loss`, they multiply its losses.
    """

    corpora: Mapping[str, Corpus]
    output: Path
    policy: LinePolicy
    seed: int = 0
    lines: int | None = None
    base: str | None = None
    weighting: str = "pairs"

    def path(self, ending: str) -> Path:
        """Returns the path of the mix's file with this ending."""
        return self.output.with_name(f"{self.output.name}.{ending}")

    @property
    def texts(self) -> list[Path]:
        """The files that are written before the record."""
        return [self.path(ending) for ending in ("src", "tgt", *(["weights"] if self.weighting == "loss" else []))]

    @property
    def work(self) -> Work:
        """The record of the mix."""
        return Work(self.path("json"), self.settings())

    def settings(self) -> dict[str, Any]:
        """Returns all settings that the output files depend on. Those that records of older mixes lack only if set."""
        corpora = {name: _corpus_settings(corpus) for name, corpus in self.corpora.items()}
        scalars = {"seed": self.seed, "lines": self.lines, "base": self.base}
        scalars |= {"weighting": self.weighting} if self.weighting != "pairs" else {}
        return {"corpora": corpora, **scalars, "reading": asdict(self.policy)}


def _corpus_settings(corpus: Corpus) -> dict[str, Any]:
    files = {
        side: [fingerprint(path) for path in paths]
        for side, paths in (("sources", corpus.sources), ("targets", corpus.targets), ("weights", corpus.weights))
        if paths
    }
    return files | corpus.settings()


class Part(NamedTuple):
    """A corpus's part of a mix: it has `pairs` valid pairs, of which `used` are used and fill `lines` lines.

    `left_out` counts the dropped pairs by reason.
    """

    corpus: Corpus
    pairs: int
    used: int
    lines: int
    left_out: Mapping[str, int]


def write_mix(
    mix: Mix, overwrite: bool = False, on_line: Callable[[int, int], None] = lambda line, lines: None
) -> dict[str, Any]:
    """Writes the mix and returns its record. If the same mix already exists, only returns the record.

    Another process that writes files of the same names waits.

    Args:
        mix: the mix to write.
        overwrite: replace a mix with other settings instead of raising an error.
        on_line: called for each line with its number and the total number of lines.

    Raises:
        DataError: if a mix with other settings exists, files are not parallel, or a corpus has no usable pair.
    """
    if record := mix.work.done(overwrite, mix.texts):  # without the lock, so that the folder may be read-only
        return record
    parts = _plan(mix)  # without it as well: bad input leaves no file
    with locked(mix.output.with_name(f".{mix.output.name}.lock")):
        return mix.work.done(overwrite, mix.texts) or _write(mix, parts, on_line)


def _write(mix: Mix, parts: Mapping[str, Part], on_line: Callable[[int, int], None]) -> dict[str, Any]:
    every = [mix.path(ending) for ending in ENDINGS]
    remove_leftovers(mix.output.parent, *(path.name for path in every))
    texts, lines = mix.texts, sum(part.lines for part in parts.values())
    with whole_files(texts, outdated=every) as streams:
        for number, line in enumerate(_lines(mix, parts), start=1):
            for stream, text in zip(streams, (line.source, line.target, f"{line.weight:.6g}")):
                stream.write(text.encode() + b"\n")
            on_line(number, lines)
        files = written_files(texts, streams)
    corpora = {name: dict(zip(part._fields[1:], part[1:])) for name, part in parts.items()}
    selected = selected_by(path for corpus in mix.corpora.values() for path in corpus.targets)
    return mix.work.finish({"lines": lines, "corpora": corpora, "selected_by": selected, "files": files})


def _plan(mix: Mix) -> dict[str, Part]:
    counted = {name: _count(name, corpus, mix.policy) for name, corpus in mix.corpora.items()}
    used = {name: max(1, round(mix.corpora[name].fraction * pairs)) for name, (pairs, _) in counted.items()}
    lines = plan_lines(used, {name: corpus.share for name, corpus in mix.corpora.items()}, mix.lines, mix.base)
    return {
        name: Part(mix.corpora[name], pairs, used[name], lines[name], left_out)
        for name, (pairs, left_out) in counted.items()
    }


def _count(name: str, corpus: Corpus, policy: LinePolicy) -> tuple[int, dict[str, int]]:
    left_out: Counter[str] = Counter()
    pairs = total = 0
    for pair in usable_pairs(corpus, policy, left_out):
        pairs, total = pairs + 1, total + pair.weight
    if not pairs:
        raise DataError(f"corpora.{name} has no usable pair.")
    if not total:
        raise DataError(f"corpora.{name}.weights are all 0.")
    return pairs, dict(sorted(left_out.items()))


class Pair(NamedTuple):
    """A cleaned pair, with its weight in units of `WEIGHT_UNIT`."""

    source: str
    target: str
    weight: int = 1


def usable_pairs(corpus: Corpus, policy: LinePolicy, left_out: Counter) -> Iterator[Pair]:
    """Yields the cleaned pairs of a corpus, and counts the dropped ones in `left_out` by side and reason.

    Raises:
        DataError: if files are not parallel, or a weight is not a number of at least 0.
    """
    weights: Sequence[Path | None] = corpus.weights or [None] * len(corpus.sources)
    for *files, weight_file in zip(corpus.sources, corpus.targets, weights, strict=True):
        for raw_lines, weight in _with_weights(parallel_lines(*files), weight_file):
            if texts := clean_pair(raw_lines, policy, left_out):
                yield Pair(*texts, weight)


def _with_weights(pairs: Iterator[Item], path: Path | None) -> Iterator[tuple[Item, int]]:
    if path is None:
        yield from ((pair, 1) for pair in pairs)
        return
    weights = iter(TextFiles([path]))
    number = 0
    for number, pair in enumerate(pairs, start=1):
        if (line := next(weights, None)) is None:
            raise DataError(f"'{path}' has {number - 1} weights, but there are more pairs.")
        yield pair, _weight(line, f"'{path}', line {number}")
    if next(weights, None) is not None:
        raise DataError(f"'{path}' has more weights than there are pairs, {number}.")


def _weight(line: bytes, where: str) -> int:
    try:
        weight = round(float(line) / WEIGHT_UNIT)
    except (ValueError, OverflowError):
        weight = -1
    if weight < 0:
        raise DataError(f"{where}: '{line.decode('utf-8', 'replace')[:60]}' is not a weight, a number of at least 0.")
    return weight


def plan_lines(
    used: Mapping[str, int], shares: Mapping[str, float], lines: int | None = None, base: str | None = None
) -> dict[str, int]:
    """Returns how many lines of the mix come from each corpus.

    Args:
        used: the number of pairs to use from each corpus.
        shares: the share of each corpus. They need not sum to 1.
        lines: see `Mix`.
        base: see `Mix`.
    """
    exact = {name: Fraction(str(share)) for name, share in shares.items()}
    if lines is None:
        base = base or max(used, key=lambda name: used[name] / exact[name])
        return {name: max(1, round(used[base] * exact[name] / exact[base])) for name in used}
    due = {name: lines * exact[name] / sum(exact.values()) for name in used}
    counts = {name: int(due[name]) for name in used}
    by_remainder = sorted(used, key=lambda name: counts[name] - due[name])
    return counts | {name: counts[name] + 1 for name in by_remainder[: lines - sum(counts.values())]}


def choose(items: Iterator[Item], count: int, total: int, seed: str) -> Iterator[Item]:
    """Yields `count` items of `total`, in order. All selections are equally likely (Knuth's algorithm S).

    With the same seed, a smaller selection is a part of a larger one: a sweep of sizes has nested subsets.
    """
    generator = Random(seed)
    for item in items:
        if generator.random() * total < count:
            yield item
            count -= 1
        total -= 1


def interleave(streams: Mapping[str, Iterator[Item]], counts: Mapping[str, int]) -> Iterator[Item]:
    """Yields `counts` items from the streams, each time from the stream that is furthest behind its share."""
    total = sum(counts.values())
    given = dict.fromkeys(counts, 0)
    for position in range(1, total + 1):
        behind = {name: counts[name] * position - given[name] * total for name in counts}
        name = max(behind, key=behind.__getitem__)
        given[name] += 1
        yield next(streams[name])


def repeat_by_weight(pairs: Iterator[Pair], total: int, lines: int, seed: str) -> Iterator[Pair]:
    """Yields `lines` pairs, in order. Each pair occurs in proportion to its weight, rounded up or down.

    This is systematic sampling: with a random offset, every `total / lines`-th unit of weight is taken.

    Args:
        pairs: the pairs.
        total: the sum of their weights.
        lines: the number of pairs to yield.
        seed: determines the offset.
    """
    place = Random(seed).randrange(total)
    for pair in pairs:
        before, place = place // total, place + pair.weight * lines
        yield from repeat(pair, place // total - before)


class _Line(NamedTuple):
    """A line of a mix. The weights of a corpus have the mean 1 over its used pairs."""

    source: str
    target: str
    weight: float


def _lines(mix: Mix, parts: Mapping[str, Part]) -> Iterator[_Line]:
    streams = {name: _stream(name, part, mix) for name, part in parts.items()}
    return interleave(streams, {name: part.lines for name, part in parts.items()})


def _stream(name: str, part: Part, mix: Mix) -> Iterator[_Line]:
    """Yields a corpus's lines for the mix: all used pairs as often as they fit, then a random part of them."""
    corpus, seed = part.corpus, f"{mix.seed} {name}"

    def pairs() -> Iterator[Pair]:
        return choose(usable_pairs(corpus, mix.policy, Counter()), part.used, part.pairs, f"{seed} used")

    total = sum(pair.weight for pair in pairs()) if corpus.weights else part.used
    if not total:
        raise DataError(f"corpora.{name}.weights are 0 for all {part.used} pairs that are used.")
    if corpus.weights and mix.weighting == "pairs":
        chosen = repeat_by_weight(pairs(), total, part.lines, f"{seed} weights")
    else:
        rounds = chain.from_iterable(pairs() for _ in range(part.lines // part.used))
        chosen = chain(rounds, choose(pairs(), part.lines % part.used, part.used, f"{seed} more"))
    tag = f"{corpus.tag} " if corpus.tag else ""
    yield from (_Line(tag + pair.source, pair.target, pair.weight * part.used / total) for pair in chosen)
