"""Filters that drop bad pairs. Each filter is a pure function of one pair and one setting.

Filters that compare a pair with all others are in `corpus_filters`.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from nemo_distill.config.section import Allowed, section
from nemo_distill.failures.numbers import NUMBER
from nemo_distill.failures.segment import WORD
from nemo_distill.failures.surface import ADDRESS, AROUND, longest_run
from nemo_distill.text.languages import identified_language, is_spaceless, language_identifier

# In characters. Added to both lengths, because the ratio means little for short lines.
LENGTH_SLACK = 10
# Text is compared by character instead of by word if its words are longer than this on average, or if it is mostly in
# scripts that are written without spaces.
LONGEST_WORD = 10
# Repetitions in the source, such as a row of dashes, do not always have the same length in the translation.
MORE_THAN_SOURCE = 1.5
FEWEST_WORDS = 3
UNKNOWN = "⁇"  # what SentencePiece writes for an unknown piece
NUMBER_OR_CHARACTER = re.compile(r"\d+(?:[.,]\d{3})*|.", re.DOTALL)
LONGEST_NUMBER = 24  # characters; a longer one is a loop
CERTAIN = 0.9  # probability of the most probable language


@dataclass(frozen=True)
class Pair:
    """A source line and its label, as seen by the filters.

    Args:
        finished: False if the hypothesis was cut off by the length limit.
        source_cut: True if only the beginning of the line was translated.
    """

    source: str
    target: str
    finished: bool = True
    source_cut: bool = False


def _off_or_from_1(value: float | None) -> float | None:
    if value and value < 1:
        raise ValueError("must be null, 0 or at least 1")
    return value


OFF_OR_FROM_1 = AfterValidator(_off_or_from_1)


def _known_language(code: str | None) -> str | None:
    if code is None:
        return None
    known, own_code = language_identifier().nb_classes, identified_language(code)
    if own_code not in known:
        raise ValueError(f"must be null or one of {', '.join(sorted(known))}")
    return own_code


@section
class FilterSettings:
    """Which filters are on; false turns one off, and null or 0 one that has a number."""

    empty: bool = True
    """Drop empty hypotheses."""
    identical: bool = True
    """Drop hypotheses that are the source, but for case and spaces."""
    unfinished: bool = True
    """Drop hypotheses that the length limit cut off."""
    source_cut: bool = True
    """Drop lines that were too long for the teacher, so that only their beginning was translated."""
    length_ratio: Annotated[float | None, OFF_OR_FROM_1] = 3.0
    """Drop a pair if one side has more than this many times the characters of the other. Take 6 with Chinese or
    Japanese."""
    repetitions: Annotated[int | None, OFF_OR_FROM_1] = 3
    """Drop hypotheses that say the same more often than this in a row, and more than 1.5 times as often as the
    source."""
    untranslated: float | None = Field(default=0.6, ge=0, lt=1)
    """Drop hypotheses of whose words, names and addresses apart, more than this share stand in the source; related
    languages want more."""
    unknown: bool = True
    """Drop hypotheses with the unknown word `⁇`, if the source does not have it."""
    numbers: bool = False
    """Drop hypotheses that lack a number of the source of two or more digits, whatever separates the digits."""
    urls: bool = False
    """Drop hypotheses that lack a web or e-mail address of the source."""
    languages: Annotated[
        list[Annotated[str | None, AfterValidator(_known_language)]] | None,
        Field(min_length=2, max_length=2),
        Allowed("null, or the languages of source and target, as [de,en]; null for a side that is not checked"),
    ] = None
    """The languages of source and target, such as `[de,en]`: drop a pair with a side that is certainly in another one
    (py3langid, with a probability of 0.9 or more). A language may be null, for a side that is not checked."""
    duplicates: bool = True
    """Drop a pair that came before."""
    score_quantile: float | None = Field(default=None, ge=0, lt=1)
    """Drop this share of the pairs, those with the teacher's lowest scores."""
    reverse_score_quantile: float | None = Field(default=0.05, ge=0, lt=1)
    """Drop this share, those whose source the reverse model finds least likely, if there is such a model."""
    quality_quantile: float | None = Field(default=None, ge=0, lt=1)
    """Drop this share, those with the lowest scores of `quality`."""
    consensus_quantile: float | None = Field(default=None, ge=0, lt=1)
    """Drop this share, those whose label is least similar to the other hypotheses by `metric`: where hypotheses
    disagree, the teacher is not sure."""


OFF: dict[str, Any] = {field.name: False if field.type is bool else None for field in fields(FilterSettings)}
NO_FILTERS = FilterSettings(**OFF)


def empty(pair: Pair, on: bool) -> bool:
    """True if the hypothesis is empty."""
    return not pair.target.strip()


def identical(pair: Pair, on: bool) -> bool:
    """True if the hypothesis equals the source."""
    return pair.source.casefold().split() == pair.target.casefold().split()


def unfinished(pair: Pair, on: bool) -> bool:
    """True if the hypothesis was cut off by the length limit."""
    return not pair.finished


def source_cut(pair: Pair, on: bool) -> bool:
    """True if the line was too long for the teacher."""
    return pair.source_cut


def length_ratio(pair: Pair, most: float) -> bool:
    """True if one side is much longer than the other."""
    shorter, longer = sorted((len(pair.source), len(pair.target)))
    return longer + LENGTH_SLACK > most * (shorter + LENGTH_SLACK)


def repetitions(pair: Pair, most: int) -> bool:
    """True if the hypothesis repeats itself in a loop.

    Each side is compared by word, or by character if it is written without spaces, with each number as one character.
    If only the target is written without spaces, the source is compared both ways, so that repeated phrases and rows
    of dashes are found.
    """
    by_word = _has_words(pair.target)
    said = _longest_run(pair.target.split() if by_word else _characters(pair.target))
    return said > most and said > MORE_THAN_SOURCE * _said_by_source(pair.source, by_word)


def untranslated(pair: Pair, most: float) -> bool:
    """True if many words were copied. Ignores capitalized words and addresses, because names are not translated, and
    short lines."""
    words = [word for word in WORD.findall(ADDRESS.sub(" ", pair.target)) if not word[0].isupper()]
    common = Counter(words) & Counter(WORD.findall(pair.source))
    return len(words) >= FEWEST_WORDS and common.total() > most * len(words)


def unknown(pair: Pair, on: bool) -> bool:
    """True if the teacher has written its unknown word."""
    return UNKNOWN in pair.target and UNKNOWN not in pair.source


def numbers(pair: Pair, on: bool) -> bool:
    """True if a number of the source is not in the hypothesis. Single digits are often written as words."""
    return bool(_numbers(pair.source) - _numbers(pair.target))


def urls(pair: Pair, on: bool) -> bool:
    """True if an address of the source is not in the hypothesis."""
    return any(address.rstrip(AROUND) not in pair.target for address in ADDRESS.findall(pair.source))


def languages(pair: Pair, expected: Sequence[str | None]) -> bool:
    """True if one side is certainly not in the expected language."""
    return any(_is_other_language(text, code) for text, code in zip((pair.source, pair.target), expected) if code)


SINGLE = (
    empty, identical, unfinished, source_cut, length_ratio, repetitions, untranslated,
    unknown, numbers, urls, languages,
)  # fmt: skip
FILTERS: dict[str, Callable[[Pair, Any], bool]] = {function.__name__: function for function in SINGLE}


def first_reason(pair: Pair, settings: FilterSettings) -> str | None:
    """Returns the name of the first filter that drops the pair, or None."""
    for name, drops in FILTERS.items():
        setting = getattr(settings, name)
        if setting and drops(pair, setting):
            return name
    return None


def _said_by_source(source: str, target_has_words: bool) -> int:
    has_words = _has_words(source)
    runs = [_longest_run(source.split())] if has_words else []
    if not (has_words and target_has_words):
        runs.append(_longest_run(_characters(source)))
    return max(runs)


def _characters(text: str) -> list[str]:
    """Returns numbers and all other characters: the zeros of a round number are no loop."""
    found = NUMBER_OR_CHARACTER.findall(text)
    return list(chain.from_iterable(one if len(one) > LONGEST_NUMBER else [one] for one in found))


def _longest_run(units: Sequence[str]) -> int:
    return longest_run(units, counts=bool)[0]  # also rows of dashes


def _has_words(text: str) -> bool:
    return len(text.split()) * LONGEST_WORD > len(text) and not is_spaceless(text)


def _numbers(text: str) -> Counter:
    """Returns the numbers of two or more digits, as their digits alone."""
    found = ("".join(str(int(digit)) for digit in number if digit.isdecimal()) for number in NUMBER.findall(text))
    return Counter(digits for digits in found if len(digits) > 1)


def _is_other_language(text: str, expected: str) -> bool:
    text = ADDRESS.sub(" ", text)  # which often has words of another language
    # The identifier has seen few capitals.
    found, probability = language_identifier().classify(text.lower() if text.isupper() else text)
    return found != expected and probability >= CERTAIN
