"""Makes the shortlist of an export from parallel text, read as the export itself reads it."""

from collections.abc import Sequence
from pathlib import Path

from nemo_distill.config.errors import DataError
from nemo_distill.console import console
from nemo_distill.decoding.ctranslate2_engine import read_tokens
from nemo_distill.decoding.processors import Processor, load_processors, tokenized
from nemo_distill.export.record import ExportRecord, Shortlist, TextSide
from nemo_distill.export.shortlist import LONGEST, alignments, common_pieces, shortlist, write_vmap
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.lines import TextFiles, decoded
from nemo_distill.text.token_ids import load_tokenizer


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
        sources: the source files, plain or gzip.
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
        console.warning(f"{left_out:,} pairs were not aligned: a side is empty or has more than {LONGEST} pieces.")
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
