"""Source text that was copied instead of translated, as a whole or in words."""

from difflib import get_close_matches

from nemo_distill.failures.segment import Found, Segment, words
from nemo_distill.failures.training_text import Answers, copied_words

FEWEST_WORDS = 3  # of a line: shorter ones are often names or the same in both languages
MOST_KEPT = 0.5  # of the reference's words
SOURCE_LINES = 10  # a source word is known as such from this many lines
SIMILAR = 0.7  # of two spellings of a name


def copied(segment: Segment) -> Found:
    """Returns the translation if it is the source, but for case, and most words of the reference are others."""
    source, translation, reference = (words(text) for text in (segment.source, segment.translation, segment.reference))
    if source != translation or len(source) < FEWEST_WORDS:
        return []
    kept = sum(word in source for word in reference)
    return [segment.translation] if kept <= MOST_KEPT * len(reference) else []


def untranslated(segment: Segment, known: Answers) -> Found:
    """Returns the source words in the translation that no target text has, and that the reference does not have.

    Names are copied rightly. Most of them are on both sides of the training text, or the reference has them in a
    similar spelling.

    Args:
        segment: source, translation and reference.
        known: what is in the training text and in the test sets.
    """
    reference = words(segment.reference)
    return [
        word
        for word in copied_words(segment)
        if known.source_lines.get(word, 0) >= SOURCE_LINES and not get_close_matches(word, reference, 1, SIMILAR)
    ]
