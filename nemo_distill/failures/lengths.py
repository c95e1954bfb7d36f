"""Translations that are empty, cut off, far too short or far too long.

A length is compared with the reference and with the source, in characters without spaces. A translation is only too
short or too long if both say so.
"""

import re
from collections.abc import Sequence

from nemo_distill.failures.segment import Found, Segment

SLACK = 25  # characters; added to both lengths, because a ratio says little about short lines
END = re.compile(r"[.!?…。！？।؟](?:[\"'”’“»«)\]」』]|\s)*$")
CONTENT = re.compile(r"\w")


def empty(segment: Segment) -> Found:
    """Says so if a translation has no letter and no digit, but its source has."""
    is_empty = CONTENT.search(segment.source) and not CONTENT.search(segment.translation)
    return ["no text"] if is_empty else []


def cut(segment: Segment, per_source: float, shortest: float) -> Found:
    """Returns the last words of a translation that ends too early and without punctuation.

    Args:
        per_source: `characters_per_source` of the whole set.
        shortest: least share of the expected length of a sentence that ends with punctuation. Without punctuation, it
            is half as far from the whole length.
    """
    if not (END.search(segment.source) and END.search(segment.reference)) or END.search(segment.translation):
        return []
    if empty(segment) or _share(segment, per_source)[1] >= (1 + shortest) / 2:
        return []
    return [f"… {' '.join(segment.translation.split()[-3:])}"]


def too_short(segment: Segment, per_source: float, shortest: float) -> Found:
    """Returns the share of the expected length if it is below `shortest`. Empty translations are another kind."""
    share = _share(segment, per_source)[1]
    return [f"{share:.0%} of the length"] if share < shortest and not empty(segment) else []


def too_long(segment: Segment, per_source: float, longest: float) -> Found:
    """Returns the share of the expected length if it is above `longest`."""
    share = _share(segment, per_source)[0]
    return [f"{share:.0%} of the length"] if share > longest else []


def characters_per_source(sources: Sequence[str], references: Sequence[str]) -> float:
    """Returns the characters of the references for each character of the sources, without spaces."""
    return sum(map(_length, references)) / max(1, sum(map(_length, sources)))


def _length(text: str) -> int:
    return len("".join(text.split()))


def _share(segment: Segment, per_source: float) -> tuple[float, float]:
    """Returns the smaller and the larger of the lengths relative to reference and source."""
    source, translation, reference = map(_length, (segment.source, segment.translation, segment.reference))
    length, expected = translation + SLACK, (reference + SLACK, source * per_source + SLACK)
    return length / max(expected), length / min(expected)
