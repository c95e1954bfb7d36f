"""Loops: a translation that says the same again and again, which its source and reference do not.

Counting repeated n-grams beyond those of the source follows Raunak et al. 2021 (arXiv 2104.06683, section 5), with
neighbours counted separately, since they are the clearest sign.
"""

import re
from collections.abc import Sequence

from nemo_distill.failures.segment import Found, Segment, ngrams, units

LONGEST_GROUP = 20  # units that are repeated together
PHRASE = 6  # units; the shortest phrase whose repetitions at a distance count
JOINING = {"and", "und"}  # "more and more" is no loop
LETTERS = re.compile(r"([^\W\d_]{1,4}?)\1{3,}")


def loops(segment: Segment, most: int) -> Found:
    """Returns what is repeated more often than in source and reference.

    Args:
        most: number of times that a single word may be said in a row. A group of words may be said once less.
    """
    said, *others = (units(text) for text in (segment.translation, segment.source, segment.reference))
    for find, allowed in ((longest_run, most), (_longest_group_run, most - 1), (_most_phrases, most)):
        count, group = find(said)
        if count > allowed and count > max(find(other)[0] for other in others):
            return [f"{' '.join(group)} ({count} times)"]
    elsewhere = f"{segment.source} {segment.reference}".casefold()
    found = [match[0] for match in LETTERS.finditer(segment.translation.casefold())]
    return [repeated for repeated in found if repeated not in elsewhere]


def longest_run(sequence: Sequence[str], shortest: int = 1) -> tuple[int, tuple[str, ...]]:
    """Returns how often a group of units is repeated in a row at most, and the group. Groups of signs do not count.

    Args:
        shortest: fewest units of a group, at most 20.
    """
    best: tuple[int, tuple[str, ...]] = (1, ())
    if len(set(sequence)) == len(sequence):
        return best
    for period in range(shortest, min(LONGEST_GROUP, len(sequence) // 2) + 1):
        streak = 0
        for place, (before, after) in enumerate(zip(sequence, sequence[period:])):
            streak = streak + 1 if before == after else 0
            if streak // period + 1 > best[0]:
                group = tuple(sequence[place + 1 : place + 1 + period])
                if any(unit.isalpha() for unit in group) and not (len(group) == 2 and JOINING.intersection(group)):
                    best = (streak // period + 1, group)
    return best


def _longest_group_run(sequence: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    return longest_run(sequence, shortest=2)


def _most_phrases(sequence: Sequence[str]) -> tuple[int, tuple[str, ...]]:
    """Returns how often the most frequent phrase occurs, without overlaps, and the phrase."""
    places: dict[tuple[str, ...], list[int]] = {}
    for place, phrase in enumerate(ngrams(sequence, PHRASE)):
        found = places.setdefault(phrase, [])
        if any(unit.isalnum() for unit in phrase) and (not found or place >= found[-1] + PHRASE):
            found.append(place)
    return max(((len(found), phrase) for phrase, found in places.items()), key=lambda one: one[0], default=(0, ()))
