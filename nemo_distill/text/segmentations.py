"""Relates the segmentations of the same text by two tokenizers.

Pieces are compared by the UTF-8 bytes that they stand for, with `▁` for a space. So pieces of SentencePiece, its byte
pieces and those of youtokentome are comparable.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

SPACE = "▁".encode()
UNKNOWN = b"\xff"  # the bytes of the unknown piece; no text has them
UNKNOWN_CHARACTER = "\ue000"  # for private use: no piece begins or ends inside a longer piece with it


@dataclass(frozen=True)
class Pieces:
    """The pieces of a tokenizer.

    Args:
        surfaces: (V,), the bytes that each piece stands for; empty for special pieces.
        special_ids: the ids of `pad`, `bos`, `eos` and `unk`.
        encode: returns the ids of a text, without special ids at the ends.
    """

    surfaces: tuple[bytes, ...]
    special_ids: Mapping[str, int]
    encode: Callable[[str], list[int]]

    @cached_property
    def by_surface(self) -> dict[bytes, int]:
        """The id of each surface. Of several, the last one: byte pieces come first."""
        return {surface: index for index, surface in enumerate(self.surfaces) if surface}

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of ids. An unknown piece becomes a character that no tokenizer knows."""
        joined = b"".join(self.surfaces[index] for index in ids).replace(UNKNOWN, UNKNOWN_CHARACTER.encode())
        return joined.decode("utf-8", "replace").replace("▁", " ").strip(" ")

    def first_of(self, surface: bytes) -> int | None:
        """Returns the first piece of this tokenizer's segmentation of a surface inside a text; None if none fits."""
        if (equal := self.by_surface.get(surface)) is not None:
            return equal
        try:
            text = surface.decode().replace("▁", " ")
        except UnicodeDecodeError:  # a part of a character
            return None
        before = len(self.encode(UNKNOWN_CHARACTER))
        for index in self.encode(UNKNOWN_CHARACTER + text)[before:][:1]:
            return index if self.surfaces[index] and surface.startswith(self.surfaces[index]) else None
        return None


def piece_map(theirs: Pieces, own: Pieces) -> np.ndarray:
    """Returns (V',), for each piece of another tokenizer, the piece of `own` that the same text begins with.

    It is the equal piece. Otherwise it is the first piece of `own`'s segmentation of that piece. Special pieces are
    mapped to those of the same name. V stands for none.
    """
    nothing = len(own.surfaces)
    special = {index: own.special_ids[name] for name, index in theirs.special_ids.items()}
    found = [
        special[index] if index in special else own.first_of(surface) if surface else None
        for index, surface in enumerate(theirs.surfaces)
    ]
    return np.array([nothing if index is None else index for index in found], np.int64)


class Alignment(NamedTuple):
    """How the positions of a segmentation with n pieces relate to those of another one with n' pieces.

    Position i is that of the piece i; position n is that of the end of the sentence.

    Args:
        positions: (n + 1), the other segmentation's position after the same text; -1 if there is none.
        spans: of each text between two neighboring common positions that is equal in both, the first position and
            the position after the last one: own begin, own end, their begin, their end.
    """

    positions: list[int]
    spans: list[tuple[int, int, int, int]]


def align(own_ids: Sequence[int], their_ids: Sequence[int], own: Pieces, theirs: Pieces) -> Alignment:
    """Aligns two segmentations of a text, which may differ in some words, for example in unknown characters."""
    text, starts = _laid_out(own_ids, own)
    their_text, their_starts = _laid_out(their_ids, theirs)
    places = {start: position for position, start in reversed([*enumerate(their_starts)])}
    positions = [-1] * len(starts)
    for begin, end, shift in _equal_parts(text, their_text):
        for position, start in enumerate(starts):
            if begin <= start <= end and positions[position] < 0:
                positions[position] = places.get(start + shift, -1)
    common = [(position, other) for position, other in enumerate(positions) if other >= 0]
    spans = [
        (begin, end, their_begin, their_end)
        for (begin, their_begin), (end, their_end) in pairwise(common)
        if their_begin < their_end
        and text[starts[begin] : starts[end]] == their_text[their_starts[their_begin] : their_starts[their_end]]
    ]
    if positions[-1] == len(their_ids):
        spans.append((len(own_ids), len(own_ids) + 1, len(their_ids), len(their_ids) + 1))
    return Alignment(positions, spans)


def _laid_out(ids: Sequence[int], pieces: Pieces) -> tuple[bytes, list[int]]:
    """Returns the bytes of a segmentation, with a space in front, and where each piece and the end begin."""
    surfaces = [pieces.surfaces[index] for index in ids]
    text = b"".join(surfaces)
    missing = 0 if text.startswith(SPACE) else len(SPACE)  # some tokenizers put no space in front
    starts = [0, *accumulate(map(len, surfaces))]
    return SPACE[:missing] + text, [start + missing if start else 0 for start in starts]


def _equal_parts(text: bytes, other: bytes) -> list[tuple[int, int, int]]:
    """Returns the begin and end of each part of `text` that `other` has as well, and by how much it lies further."""
    if text == other:
        return [(0, len(text), 0)]
    words, others = (side.split(SPACE)[1:] for side in (text, other))
    starts, other_starts = ([0, *accumulate(len(SPACE) + len(word) for word in side)] for side in (words, others))
    blocks = SequenceMatcher(None, words, others, autojunk=False).get_matching_blocks()
    return [
        (starts[block.a], starts[block.a + block.size], other_starts[block.b] - starts[block.a])
        for block in blocks
        if block.size
    ]
