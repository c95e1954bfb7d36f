"""The text that all kinds of failures are found in, and its words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import regex

WORD = regex.compile(r"\p{L}[\p{L}\p{M}]*")
TOKEN = re.compile(r"[^\W_]+|[^\w\s]")
# Scripts without spaces between words: Thai, Lao, Burmese, Khmer, Japanese and Chinese.
SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
SPACELESS_LANGUAGES = ("ja", "km", "lo", "my", "th", "zh")

# Codes of three letters for languages whose rules are known here; py3langid has codes of two.
TWO_LETTERS = {"deu": "de", "ger": "de", "eng": "en", "jpn": "ja", "jap": "ja", "zho": "zh", "chi": "zh", "cmn": "zh"}

Found = Sequence[str]  # the evidence, such as lost numbers; empty if nothing is wrong


@dataclass(frozen=True)
class Segment:
    """A sentence, its translation by a system, and its translation by a person.

    The reference prevents false alarms: what a person left out too was not lost by the system.
    """

    source: str
    translation: str
    reference: str


def language_code(language: str | None) -> str | None:
    """Returns the language of a code such as `de-DE`, `deu_Latn` or `__de__`, in two letters if it has such a code."""
    first = re.split("[-_]", (language or "").strip("_ ").lower())[0]
    return TWO_LETTERS.get(first, first) or None


def words(text: str) -> list[str]:
    """Returns the words in lower case, without numbers and punctuation; `don't` is two words."""
    return WORD.findall(text.casefold())


def units(text: str) -> list[str]:
    """Returns words, numbers and signs in lower case; single characters if the text has no spaces between words."""
    if 2 * len(SPACELESS.findall(text)) > len(text):
        return [character for character in text if not character.isspace()]
    return TOKEN.findall(text.casefold())


def ngrams(sequence: Sequence[str], length: int) -> list[tuple[str, ...]]:
    """Returns all runs of `length` neighbours."""
    return [tuple(sequence[start : start + length]) for start in range(len(sequence) - length + 1)]
