"""Finds the lines of the training files that a batch contains, so that the user can inspect them."""

import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf
from torch import Tensor

from nemo_distill.nemo_files.nemo_tokenizers import text_of
from nemo_distill.text.lines import TextFiles
from nemo_distill.text.training_mix import training_pairs

SHOWN_LINES = 10
Pair = tuple[str, str]


class _Place(NamedTuple):
    files: tuple[Path, Path]
    line: int


def batch_origin(model: Any, batch: Sequence[Tensor]) -> str:
    """Returns a sentence that names the lines in a batch, or its first source sentence if there are no text files.

    Args:
        model: the `MTEncDecModel` in training.
        batch: a NeMo batch: source ids (B, S), their mask, target ids (B, T), their mask, labels (B, T).
    """
    tokenizers = model.encoder_tokenizer, model.decoder_tokenizer
    sides = [[text_of(ids, tokenizer) for ids in rows.tolist()] for rows, tokenizer in zip(batch[::2], tokenizers)]
    rows = list(zip(*sides))
    config = OmegaConf.to_container(model.cfg, resolve=True)
    config["distillation"] = (config.get("distilled_with") or {}).get("distillation")
    places = _find(training_pairs(config), rows, [_reader(tokenizer) for tokenizer in tokenizers])
    return _sentence(places) or f"The batch's first source sentence is '{rows[0][0]}'."


def _reader(tokenizer: Any) -> Callable[[str], str]:
    return lambda text: text_of(tokenizer.text_to_ids(text), tokenizer)


def _find(
    files: Collection[tuple[Path, Path]], rows: Sequence[Pair], readers: Sequence[Callable[[str], str]]
) -> list[_Place]:
    """Finds the first line that matches each row. Compares letters first, which is fast, then tokenized text."""
    quick = (lambda text: "".join(unicodedata.normalize("NFKC", text).split()),) * 2
    places = _scan(files, {_key(row, quick): row for row in rows}, quick)
    if rest := [row for row in rows if row not in places]:
        places |= _scan(files, {row: row for row in rest}, readers)
    return list(places.values())


def _scan(
    files: Collection[tuple[Path, Path]], wanted: dict[Pair, Pair], readers: Sequence[Callable[[str], str]]
) -> dict[Pair, _Place]:
    places: dict[Pair, _Place] = {}
    longest = 4 * max(len(source) for source, _ in wanted) + 100  # characters; longer lines cannot match
    for pair_of_files, line, pair in _lines(files):
        if len(pair[0]) > longest:
            continue
        row = wanted.get(_key(pair, readers))
        if row is not None:
            places.setdefault(row, _Place(pair_of_files, line))
        if len(places) == len(wanted):
            break
    return places


def _key(pair: Pair, readers: Sequence[Callable[[str], str]]) -> Pair:
    source, target = (read(text) for read, text in zip(readers, pair))
    return source, target


def _lines(files: Collection[tuple[Path, Path]]) -> Iterator[tuple[tuple[Path, Path], int, Pair]]:
    for pair in files:
        if not all(path.is_file() for path in pair):
            continue
        for line, raw in enumerate(zip_longest(*(TextFiles([path]) for path in pair), fillvalue=b""), start=1):
            source, target = (side.decode("utf-8", "replace") for side in raw)
            yield pair, line, (source, target)


def _sentence(places: Sequence[_Place]) -> str:
    sentences = []
    for files in dict.fromkeys(place.files for place in places):
        lines = sorted(place.line for place in places if place.files == files)
        shown = ", ".join(map(str, lines[:SHOWN_LINES]))
        more = f" and {len(lines) - SHOWN_LINES} more" if len(lines) > SHOWN_LINES else ""
        what = f"lines {shown}{more}" if len(lines) > 1 else f"line {shown}"
        sentences.append(f"The batch contains {what} of '{files[0]}' and '{files[1]}'.")
    return " ".join(sentences)
