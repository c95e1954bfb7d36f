"""A lexical shortlist: for each source piece, the target pieces that its translations can contain.

With a shortlist, CTranslate2 computes the output layer only for the candidates of a batch. In a small student with a
large vocabulary, the output layer is most of the work. The candidates are the pieces that are aligned in parallel text
(Jean et al. 2015; Kim et al. 2019), here by eflomal (Östling and Tiedemann 2016).

CTranslate2 takes the union of the candidates of all sentences in a batch. So a translation can depend on the other
sentences of its batch.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from nemo_distill.config.errors import DataError
from nemo_distill.console import console
from nemo_distill.export.record import ExportRecord, Shortlist, TextSide, read_tokens
from nemo_distill.nemo_files.processors import Processor, load_processors, tokenized
from nemo_distill.storage.files import whole_file
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.lines import TextFiles, decoded
from nemo_distill.text.token_ids import load_tokenizer

FILE = "vmap.txt"  # the name that CTranslate2 looks for
LONGEST = 1023  # pieces; eflomal leaves out longer sentences

Ids = Sequence[int]  # of the pieces of a sentence
Links = list[tuple[int, int]]  # positions of aligned pieces, source before target


def add_shortlist(
    folder: Path,
    record: ExportRecord,
    sources: Sequence[Path],
    targets: Sequence[Path],
    candidates: int,
    common: int,
) -> Shortlist:
    """Aligns parallel text, writes the shortlist into an export and returns its record.

    Args:
        folder: the export for CTranslate2.
        record: its record.
        sources: the source files, plain or packed.
        targets: the target files, as many, each parallel to its source.
        candidates: most target pieces for a source piece.
        common: target pieces that are allowed in every translation.

    Raises:
        DataError: if no pair can be aligned, or eflomal aligns nothing.
    """
    processors = load_processors(record.source.language, record.target.language)
    read = [
        _pieces(folder, side, files, processor)
        for side, files, processor in zip((record.source, record.target), (sources, targets), processors)
    ]
    pairs = [pair for pair in zip(*read, strict=True) if all(0 < len(ids) <= LONGEST for ids in pair)]
    if not pairs:
        raise DataError(f"{_named(sources)}: no sentence pair can be aligned")
    if left_out := len(read[0]) - len(pairs):
        console.warning(f"Pairs not aligned, because a side is empty or has more than {LONGEST} pieces: {left_out:,}.")
    source_ids, target_ids = (list(side) for side in zip(*pairs))
    found = shortlist(source_ids, target_ids, alignments(source_ids, target_ids), candidates)
    if not found:
        raise DataError(f"{_named(sources)}: eflomal has aligned nothing in {len(pairs):,} pairs; give more text")
    shared = common_pieces(target_ids, common)
    write_vmap(folder, found, shared, *(read_tokens(folder, side) for side in ("source", "target")))
    mean = sum(map(len, found.values())) / len(found)
    files = [[fingerprint(path) for path in paths] for paths in (sources, targets)]
    return Shortlist(files[0], files[1], len(pairs), candidates, common, round(mean, 2))


def _named(files: Sequence[Path]) -> str:
    return ", ".join(f"'{file}'" for file in files)


def _pieces(folder: Path, side: TextSide, files: Sequence[Path], processor: Processor | None) -> list[list[int]]:
    """Returns the ids of each line, without special ones."""
    lines = (decoded(line) for line in TextFiles(files))
    texts = [tokenized(line, processor) for line in lines]
    return load_tokenizer(folder / side.tokenizer, side.library).encode(texts)


def alignments(sources: Sequence[Ids], targets: Sequence[Ids]) -> Iterator[Links]:
    """Yields the links of each sentence pair: those of both directions, because a shortlist wants all candidates.

    Args:
        sources: the pieces of each source, from 1 to `LONGEST`.
        targets: the pieces of each target, as many sentences and of such lengths.

    Raises:
        ImportError: if eflomal is not installed.
        CalledProcessError: if eflomal fails.
    """
    from eflomal import Aligner

    texts = [[" ".join(map(str, ids)) for ids in side] for side in (sources, targets)]
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / direction for direction in ("forward", "reverse")]
        Aligner().align(*texts, links_filename_fwd=str(paths[0]), links_filename_rev=str(paths[1]))
        with paths[0].open() as forward, paths[1].open() as reverse:
            for lines in zip(forward, reverse, strict=True):
                yield sorted({_link(word) for line in lines for word in line.split()})


def _link(word: str) -> tuple[int, int]:
    source, target = word.split("-")
    return int(source), int(target)


def shortlist(
    sources: Sequence[Ids], targets: Sequence[Ids], links: Iterator[Links], candidates: int
) -> dict[int, list[int]]:
    """Returns the target pieces that are most often aligned with each source piece, the most frequent first.

    Args:
        candidates: most target pieces for a source piece.
    """
    counts: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for source, target, pairs in zip(sources, targets, links, strict=True):
        for from_, to in pairs:
            counts[source[from_]][target[to]] += 1
    return {piece: [found for found, _ in _ranked(counted)[:candidates]] for piece, counted in sorted(counts.items())}


def common_pieces(targets: Sequence[Ids], count: int) -> list[int]:
    """Returns the most frequent target pieces, the most frequent first."""
    return [piece for piece, _ in _ranked(Counter(piece for target in targets for piece in target))[:count]]


def _ranked(counts: Counter[int]) -> list[tuple[int, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))


def write_vmap(
    folder: Path, found: Mapping[int, Ids], common: Collection[int], source: Sequence[str], target: Sequence[str]
) -> None:
    """Writes CTranslate2's `vmap.txt`.

    A line is a source token, a tab, and its target tokens with spaces between. The first line has no source token and
    is for every sentence. A token that both sides have is a candidate for itself: names and numbers are often copied.

    Args:
        found: target ids by source id.
        common: target ids that are allowed in every translation.
        source: the source tokens in the order of their ids.
        target: the target tokens in the order of their ids.
    """
    known = set(target)
    with whole_file(folder / FILE) as stream:
        stream.write(_line("", [target[index] for index in common]))
        for index, token in enumerate(source):
            tokens = [target[piece] for piece in found.get(index, ())]
            if token in known and token not in tokens:
                tokens.append(token)
            if tokens:
                stream.write(_line(token, tokens))


def _line(token: str, tokens: Sequence[str]) -> bytes:
    return f"{token}\t{' '.join(tokens)}\n".encode()
