"""A sentence with its translation and reference, in which failures are found, and the words of a text."""

from collections.abc import Sequence
from dataclasses import dataclass

import regex

from nemo_distill.text.languages import is_spaceless

# Marks belong to words: in Hindi and Tamil they are the vowels. To Python's \w, isalpha and isalnum, they do not.
WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*")
TOKEN = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*|[^\p{L}\p{N}\s_]")
# Kana, Han, Thai, Lao, Burmese and Khmer, for a class of characters.
SPACELESS_LETTERS = r"\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"

Found = Sequence[str]  # the evidence, such as lost numbers; empty if nothing is wrong


@dataclass(frozen=True)
class Segment:
    """A sentence, its translation by a system, and its translation by a person.

    The reference prevents false alarms: what a person left out too was not lost by the system.
    """

    source: str
    translation: str
    reference: str


def words(text: str) -> list[str]:
    """Returns the words in lower case, without numbers and punctuation; `don't` is two words."""
    return WORD.findall(text.casefold())


def units(text: str) -> list[str]:
    """Returns words, numbers and signs in lower case; single characters if the text has no spaces between words."""
    if is_spaceless(text):
        return [character for character in text if not character.isspace()]
    return TOKEN.findall(text.casefold())


def ngrams(sequence: Sequence[str], length: int) -> list[tuple[str, ...]]:
    """Returns all runs of `length` neighbours."""
    return [tuple(sequence[start : start + length]) for start in range(len(sequence) - length + 1)]
