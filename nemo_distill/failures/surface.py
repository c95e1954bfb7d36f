"""Failures that need no knowledge of a language: lengths, loops, and text that a translation keeps as it is.

A length is compared with the reference and with the source, in characters without spaces. A translation is only too
short or too long if both say so.

A loop says the same again and again, which source and reference do not. Counting repeated n-grams beyond those of the
source follows Raunak et al. 2021 (arXiv 2104.06683, section 5), with neighbours counted separately, since they are the
clearest sign.

URLs, e-mail addresses, inline tags and placeholders are kept as they are.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import regex

from nemo_distill.failures.segment import SPACELESS_LETTERS, WORD, Found, Segment, ngrams, units
from nemo_distill.text.languages import is_spaceless

SLACK = 25  # characters; added to both lengths, because a ratio says little about short lines
SPACELESS_SLACK = 10  # the same where a character says more
# Also of Hindi, Arabic, Urdu, Burmese, Khmer, Amharic and Armenian.
END = re.compile(r"[.!?…。！？\u0964\u0965\u061f\u06d4\u104b\u17d4\u1362\u0589](?:[\"'”’“»«)\]」』]|\s)*$")
CONTENT = re.compile(r"\w")


def empty(segment: Segment) -> Found:
    """Returns `no text` if a translation has no letter and no digit, but its source has."""
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
    """Returns the lengths if the share of the expected one is below `shortest`. Empty text is another kind."""
    is_short = _share(segment, per_source)[1] < shortest and not empty(segment)
    return [_lengths(segment)] if is_short else []


def too_long(segment: Segment, per_source: float, longest: float) -> Found:
    """Returns the lengths if the share of the expected one is above `longest`."""
    return [_lengths(segment)] if _share(segment, per_source)[0] > longest else []


def _lengths(segment: Segment) -> str:
    return f"{_length(segment.translation)} characters, {_length(segment.reference)} in the reference"


def characters_per_source(sources: Sequence[str], references: Sequence[str]) -> float:
    """Returns the characters of the references for each character of the sources, without spaces."""
    return sum(map(_length, references)) / max(1, sum(map(_length, sources)))


def _length(text: str) -> int:
    return len("".join(text.split()))


def _share(segment: Segment, per_source: float) -> tuple[float, float]:
    """Returns the smaller and the larger of the lengths relative to reference and source."""
    source, translation, reference = map(_length, (segment.source, segment.translation, segment.reference))
    slack = SPACELESS_SLACK if is_spaceless(segment.reference) else SLACK
    length, expected = translation + slack, (reference + slack, source * per_source + slack)
    return length / max(expected), length / min(expected)


E_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.ASCII)
# Up to a space, a quote or a character that belongs to the sentence: of a script without spaces, or a Korean particle.
URL = re.compile(
    rf"(?:https?://|ftp://|www\.)[^\s<>\"'“”„«»\u3000-\u303f\uff00-\uffef\uac00-\ud7a3{SPACELESS_LETTERS}]+",
    re.IGNORECASE,
)
ADDRESS = re.compile(rf"(?i:{URL.pattern})|(?a:{E_MAIL.pattern})")
# Elements and comments of XML and HTML, entities, and the placeholders of printf, str.format and shells.
TAG = re.compile(
    r"</?[A-Za-z][^<>]*>|&(?:[A-Za-z]+|#\d+|#x[0-9A-Fa-f]+);|%(?:\d+\$|\(\w+\))?[-+0#]*\d*(?:\.\d+)?[sdifgxu]\b"
    r"|\$?\{\w*\}"
)
# UTF-8 read as another encoding, U+FFFD, and signs of tokenizers that were not undone: unknown words and word pieces.
GARBLED = re.compile(r"\S*(?:[ÃÂÄÅ](?=[^\w\s]|[\d¼½¾ºª\u0080-\u009f])|â€|\ufffd|⁇|<unk>|▁|@@(?=\s|$))\S*")
AROUND = ".,;:!?)]}'\"…。、"


def changed_addresses(segment: Segment) -> Found:
    """Returns the URLs and e-mail addresses that are lost, and with a plus those that are invented."""
    return _changes(_addresses(segment.source), _addresses(segment.translation), _addresses(segment.reference))


def changed_tags(segment: Segment) -> Found:
    """Returns the inline tags, entities and placeholders that are lost, and with a plus those that are invented."""
    source, translation, reference = (
        Counter("".join(tag.split()) for tag in TAG.findall(text))
        for text in (segment.source, segment.translation, segment.reference)
    )
    return _changes(source, translation, reference)


def garbled(segment: Segment) -> Found:
    """Returns the words with broken characters that neither source nor reference has."""
    words = dict.fromkeys(GARBLED.findall(segment.translation))
    return [word for word in words if word not in segment.source and word not in segment.reference]


def _addresses(text: str) -> Counter[str]:
    return Counter(address.rstrip(AROUND).casefold() for address in ADDRESS.findall(text))


def _changes(source: Counter[str], translation: Counter[str], reference: Counter[str]) -> Found:
    lost = (source & reference) - translation
    added = translation - (source | reference)
    return [*sorted(lost.elements()), *(f"+{item}" for item in sorted(added.elements()))]


LONGEST_GROUP = 20  # units that are repeated together
PHRASE = 6  # units; the shortest phrase whose repetitions at a distance count
SPACELESS_PHRASE = 12  # the same in characters, where these are the units
LONGEST_WORD = 4  # characters with kana that Japanese says twice, as in いろいろ and 少しずつ少しずつ
KANA = re.compile(r"[\u3040-\u30ff]")
JOINING = {"and", "und"}  # "more and more" is no loop
LETTERS = regex.compile(r"(\p{L}[\p{L}\p{M}]{0,3}?)\1{3,}")


def loops(segment: Segment, most: int) -> Found:
    """Returns what is repeated more often than in source and reference.

    Args:
        most: number of times that a single word may be said in a row. A group of words may be said once less.
    """
    said, *others = (units(text) for text in (segment.translation, segment.source, segment.reference))
    longest_group_run = partial(longest_run, shortest=2, counts=_is_no_word)
    most_phrases = partial(_most_phrases, length=SPACELESS_PHRASE if is_spaceless(segment.translation) else PHRASE)
    for find, allowed in ((longest_run, most), (longest_group_run, most - 1), (most_phrases, most)):
        count, group = find(said)
        if count > allowed and count > max(find(other)[0] for other in others):
            return [f"{' '.join(group)} ({count} times)"]
    elsewhere = f"{segment.source} {segment.reference}".casefold()
    found = [match[0] for match in LETTERS.finditer(segment.translation.casefold())]
    return [repeated for repeated in found if repeated not in elsewhere]


def _says_something(group: Sequence[str]) -> bool:
    return any(map(WORD.fullmatch, group)) and not (len(group) == 2 and JOINING.intersection(group))


def _is_no_word(group: Sequence[str]) -> bool:
    is_word = len(group) <= LONGEST_WORD and any(KANA.fullmatch(unit) for unit in group)
    return _says_something(group) and not is_word


def longest_run(
    sequence: Sequence[str], shortest: int = 1, counts: Callable[[Sequence[str]], bool] = _says_something
) -> tuple[int, tuple[str, ...]]:
    """Returns how often a group of units is repeated in a row at most, and the group.

    Args:
        shortest: fewest units of a group, at most 20.
        counts: tells whether a group counts; by default, groups of signs do not.
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
                if counts(group):
                    best = (streak // period + 1, group)
    return best


def _most_phrases(sequence: Sequence[str], length: int) -> tuple[int, tuple[str, ...]]:
    """Returns how often the most frequent phrase of so many units occurs, without overlaps, and the phrase."""
    places: dict[tuple[str, ...], list[int]] = {}
    for place, phrase in enumerate(ngrams(sequence, length)):
        found = places.setdefault(phrase, [])
        if any(unit[0].isalnum() for unit in phrase) and (not found or place >= found[-1] + length):
            found.append(place)
    return max(((len(found), phrase) for phrase, found in places.items()), key=lambda one: one[0], default=(0, ()))
