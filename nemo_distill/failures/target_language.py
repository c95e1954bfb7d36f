"""Translations in a wrong language, by py3langid (Lui & Baldwin 2012), for lines that are long enough."""

from nemo_distill.failures.segment import Found, Segment
from nemo_distill.text.languages import SPACELESS, language_identifier

LETTERS = 40  # of text without names; the language of shorter lines is often mistaken


def wrong_language(segment: Segment, target_language: str, probability: float) -> Found | None:
    """Returns the language of a translation if it is not the target language; None without a verdict.

    There is no verdict on short lines, and none where the reference too is taken for another language. Words that
    begin with a capital letter are not looked at, since names have no language.

    Args:
        target_language: a code of two letters.
        probability: least probability that the language is another one.
    """
    translation, reference = (_without_names(text) for text in (segment.translation, segment.reference))
    if min(_letters(translation), _letters(reference)) < LETTERS:
        return None
    likely = _probabilities(translation)
    if likely.get(target_language, 0) > 1 - probability:
        return []
    is_right = _probabilities(reference).get(target_language, 0) > 1 - probability
    return [max(likely, key=likely.__getitem__)] if is_right else None


def language_of(text: str) -> str:
    """Returns the most probable language, as a code of two letters where there is one."""
    return str(language_identifier().classify(text)[0])


def knows(language: str) -> bool:
    """True if this language can be recognized."""
    return language in language_identifier().nb_classes


def _probabilities(text: str) -> dict[str, float]:
    return dict(language_identifier().rank(text))


def _without_names(text: str) -> str:
    return " ".join(word for word in text.split() if not word.lstrip("\"'([“„‘«»").strip()[:1].isupper())


def _letters(text: str) -> int:
    """Counts letters; a sign of a script without spaces stands for three."""
    return sum(map(str.isalpha, text)) + 2 * len(SPACELESS.findall(text))
