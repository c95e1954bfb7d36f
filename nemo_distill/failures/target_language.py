"""Translations in a wrong language, by py3langid (Lui & Baldwin 2012), for lines that are long enough."""

from functools import cache
from typing import Any

from nemo_distill.failures.segment import SPACELESS, Found, Segment

LETTERS = 30  # of text without names; the language of shorter lines is often mistaken


def wrong_language(segment: Segment, target_language: str, probability: float) -> Found | None:
    """Returns the language of a translation if it is not the target language; None without a verdict.

    There is no verdict on short lines, and none where the reference too is taken for another language. Words that
    begin with a capital letter are not looked at, since names have no language.

    Args:
        segment: source, translation and reference.
        target_language: a code of two letters.
        probability: least probability of the wrong language.
    """
    translation, reference = (_without_names(text) for text in (segment.translation, segment.reference))
    if min(_letters(translation), _letters(reference)) < LETTERS:
        return None
    language, certainty = language_of(translation)
    if language == target_language or certainty < probability:
        return []
    return [language] if language_of(reference)[0] == target_language else None


def language_of(text: str) -> tuple[str, float]:
    """Returns the most probable language, as a code of two letters, and its probability."""
    language, probability = _identifier().classify(text)
    return str(language), float(probability)


def knows(language: str) -> bool:
    """True if this language can be recognized."""
    return language in _identifier().nb_classes


def _without_names(text: str) -> str:
    return " ".join(word for word in text.split() if not word.lstrip("\"'([“„‘«»").strip()[:1].isupper())


def _letters(text: str) -> int:
    """Counts letters; a sign of a script without spaces stands for three."""
    return sum(map(str.isalpha, text)) + 2 * len(SPACELESS.findall(text))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # its model takes a while to load

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
