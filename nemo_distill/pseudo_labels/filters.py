"""Which pairs are not worth learning from: each filter a pure function of one pair and one setting.

Filters that compare a pair with all others are in `ranking`.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from nemo_distill.config.section import section

WORDS = re.compile(r"[^\W\d_]+")
# Added to both lengths, in characters: of short lines the ratio says little.
LENGTH_SLACK = 10
MOST_PERIOD = 20
# Text with longer words on average, or mostly of these scripts, is taken to be written without spaces, and is looked
# at by the character: Thai, Lao, Burmese, Khmer, Japanese and Chinese.
LONGEST_WORD = 10
WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
# A source's own repetitions, a row of dashes or a laugh, are not translated one for one.
MORE_THAN_SOURCE = 1.5
FEWEST_WORDS = 3


@dataclass(frozen=True)
class Pair:
    """A source line and its label, as filters see them.

    Args:
        source: the line that was translated.
        target: the hypothesis that was selected.
        finished: false if the length limit cut the hypothesis off.
        source_cut: only the line's beginning was translated.
    """

    source: str
    target: str
    finished: bool = True
    source_cut: bool = False


@section
class FilterSettings:
    """Which filters are on; false turns one off, and null one that has a number."""

    empty: bool = True
    """Drop empty hypotheses."""
    identical: bool = True
    """Drop hypotheses that are the source, but for case and spaces."""
    unfinished: bool = True
    """Drop hypotheses that the length limit cut off."""
    source_cut: bool = True
    """Drop lines of which only the beginning was translated."""
    length_ratio: float | None = Field(3.0, ge=1)
    """Drop a pair if one side has more than this many times the other's characters; with Chinese or Japanese take
    6."""
    repetitions: int | None = Field(3, ge=1)
    """Drop hypotheses that say the same more often than this in a row, and more than 1.5 times as often as the
    source."""
    untranslated: float | None = Field(0.6, ge=0, lt=1)
    """Drop hypotheses of whose words, names apart, more than this share stand in the source; related languages want
    more."""
    duplicates: bool = True
    """Drop a pair that came before."""
    score_quantile: float | None = Field(None, ge=0, lt=1)
    """Drop this share of the pairs, those with the teacher's lowest scores."""
    reverse_score_quantile: float | None = Field(0.05, ge=0, lt=1)
    """Drop this share, those whose source the reverse model finds least likely, if there is such a model."""


NO_FILTERS = FilterSettings(
    empty=False,
    identical=False,
    unfinished=False,
    source_cut=False,
    length_ratio=None,
    repetitions=None,
    untranslated=None,
    duplicates=False,
    score_quantile=None,
    reverse_score_quantile=None,
)


def empty(pair: Pair, on: bool) -> bool:
    """Nothing was generated."""
    return not pair.target.strip()


def identical(pair: Pair, on: bool) -> bool:
    """The teacher gave the source back."""
    return pair.source.casefold().split() == pair.target.casefold().split()


def unfinished(pair: Pair, on: bool) -> bool:
    """The length limit cut the hypothesis off."""
    return not pair.finished


def source_cut(pair: Pair, on: bool) -> bool:
    """The line is longer than the teacher reads."""
    return pair.source_cut


def length_ratio(pair: Pair, most: float) -> bool:
    """One side is much longer than the other."""
    shorter, longer = sorted((len(pair.source), len(pair.target)))
    return longer + LENGTH_SLACK > most * (shorter + LENGTH_SLACK)


def repetitions(pair: Pair, most: int) -> bool:
    """The teacher was caught in a loop.

    A side is looked at by the word, or by the character where it is written without spaces. With a target of the
    second kind, a source of the first is looked at both ways: Chinese repeats a phrase where English does, and a row
    of dashes where there is one.
    """
    by_word = _has_words(pair.target)
    said = longest_run(pair.target.split() if by_word else pair.target)
    return said > most and said > MORE_THAN_SOURCE * _said_by_source(pair.source, by_word)


def untranslated(pair: Pair, most: float) -> bool:
    """Words were copied. Capitalised ones do not count, since names stay as they are, nor does a line of few words."""
    words = [word for word in WORDS.findall(pair.target) if not word[0].isupper()]
    common = Counter(words) & Counter(WORDS.findall(pair.source))
    return len(words) >= FEWEST_WORDS and common.total() > most * len(words)


FILTERS: dict[str, Callable[[Pair, Any], bool]] = {
    function.__name__: function
    for function in (empty, identical, unfinished, source_cut, length_ratio, repetitions, untranslated)
}


def first_reason(pair: Pair, settings: FilterSettings) -> str | None:
    """Returns the name of the first filter that drops the pair, or None."""
    for name, drops in FILTERS.items():
        setting = getattr(settings, name)
        if setting and drops(pair, setting):
            return name
    return None


def longest_run(units: Sequence[str]) -> int:
    """Returns how often the unit, or the group of up to 20, that is said most often in a row is said."""
    longest = 1
    for period in range(1, min(MOST_PERIOD, len(units) // 2) + 1):
        streak = 0
        for before, after in zip(units, units[period:]):
            streak = streak + 1 if before == after else 0
            longest = max(longest, streak // period + 1)
    return longest


def _said_by_source(source: str, target_has_words: bool) -> int:
    has_words = _has_words(source)
    runs = [longest_run(source.split())] if has_words else []
    if not (has_words and target_has_words):
        runs.append(longest_run(source))
    return max(runs)


def _has_words(text: str) -> bool:
    return len(text.split()) * LONGEST_WORD > len(text) and 2 * len(WITHOUT_SPACES.findall(text)) <= len(text)
