"""All kinds of failures: how each is found, and when it does not apply."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from nemo_distill.failures import dates, negation
from nemo_distill.failures.numbers import changed_numbers
from nemo_distill.failures.segment import Found, Segment
from nemo_distill.failures.settings import FailureSettings, KindName
from nemo_distill.failures.surface import (
    changed_addresses,
    changed_tags,
    cut,
    empty,
    garbled,
    loops,
    too_long,
    too_short,
)
from nemo_distill.failures.target_language import knows, wrong_language
from nemo_distill.failures.training_text import Answers, copied, copied_span, made_up_words, memorised, untranslated
from nemo_distill.text.languages import has_spaces


@dataclass(frozen=True)
class Context:
    """What is known about all sentences of a test set.

    Args:
        source_language: a code of two letters; None if it is not known.
        target_language: the same.
        characters_per_source: characters of the references for each character of the sources.
        known: what of the translations is in the training text.
    """

    source_language: str | None
    target_language: str | None
    characters_per_source: float
    settings: FailureSettings
    known: Answers


class Kind(NamedTuple):
    """A kind of failures.

    Args:
        title: its name in tables.
        find: returns the evidence in a sentence; empty if it does not fail, None if it cannot be judged.
        hindrance: returns why the kind does not apply; None if it does.
    """

    title: str
    find: Callable[[Segment, Context], Found | None]
    hindrance: Callable[[Context], str | None] = lambda context: None


def _needs_languages(*languages: str) -> Callable[[Context], str | None]:
    def hindrance(context: Context) -> str | None:
        given = {context.source_language, context.target_language}
        if given <= set(languages):
            return None
        direction = f"{context.source_language or 'unknown'}-{context.target_language or 'unknown'}"
        return f"only for {' and '.join(languages)}, not for {direction}"

    return hindrance


def _needs_training_text(context: Context) -> str | None:
    if not context.settings.training_target:
        return "needs training_target"
    if not has_spaces(context.target_language):
        return f"needs spaces between words, which {context.target_language} has not"
    return None


def _needs_both_sides(context: Context) -> str | None:
    if not (context.settings.training_source and context.settings.training_target):
        return "needs training_source and training_target"
    return None


def _needs_known_language(context: Context) -> str | None:
    if context.target_language and knows(context.target_language):
        return None
    return f"py3langid does not know {context.target_language or 'the target language'}"


KINDS: dict[KindName, Kind] = {
    "numbers": Kind(
        "numbers lost or changed",
        lambda segment, context: changed_numbers(segment, context.source_language, context.target_language),
    ),
    "dates": Kind(
        "dates lost or changed",
        lambda segment, context: dates.changed_dates(
            segment, context.source_language or "", context.target_language or ""
        ),
        _needs_languages(*dates.LANGUAGES),
    ),
    "addresses": Kind("URLs, e-mail addresses changed", lambda segment, context: changed_addresses(segment)),
    "tags": Kind("tags, placeholders changed", lambda segment, context: changed_tags(segment)),
    "garbled": Kind("broken characters", lambda segment, context: garbled(segment)),
    "made_up_words": Kind(
        "made-up words", lambda segment, context: made_up_words(segment, context.known), _needs_training_text
    ),
    "loops": Kind("loops", lambda segment, context: loops(segment, context.settings.repeats)),
    "empty": Kind("empty", lambda segment, context: empty(segment)),
    "cut": Kind(
        "cut",
        lambda segment, context: cut(segment, context.characters_per_source, context.settings.shortest),
    ),
    "too_short": Kind(
        "far too short",
        lambda segment, context: too_short(segment, context.characters_per_source, context.settings.shortest),
    ),
    "too_long": Kind(
        "far too long",
        lambda segment, context: too_long(segment, context.characters_per_source, context.settings.longest),
    ),
    "copied": Kind("source copied", lambda segment, context: copied(segment)),
    "untranslated": Kind(
        "words left untranslated", lambda segment, context: untranslated(segment, context.known), _needs_both_sides
    ),
    "wrong_language": Kind(
        "wrong language",
        lambda segment, context: wrong_language(
            segment, context.target_language or "", context.settings.language_probability
        ),
        _needs_known_language,
    ),
    "negation": Kind(
        "negation lost",
        lambda segment, context: negation.lost_negation(
            segment, context.source_language or "", context.target_language or ""
        ),
        _needs_languages(*negation.LANGUAGES),
    ),
    "memorised": Kind(
        "copy of a training sentence",
        lambda segment, context: memorised(segment, context.known, context.settings.memorised_words),
        _needs_training_text,
    ),
    "copied_span": Kind(
        "long span of the training text",
        lambda segment, context: copied_span(segment, context.known, context.settings.span_words),
        _needs_training_text,
    ),
}
NOISE_TITLES: dict[KindName, str] = {
    "full_stop": "worse with a full stop",
    "lower_case": "worse in lower case",
    "typing_error": "worse with a typing error",
}
TITLES: dict[KindName, str] = {**{name: kind.title for name, kind in KINDS.items()}, **NOISE_TITLES}
