"""Noise that users of a translation system write: typing errors, odd case, punctuation, spaces, tags and emoji.

Each kind is a function of the words of a sentence, a probability and a random number generator. It returns the words
to read instead. These errors are among those that harm translation systems most (Belinkov & Bisk 2018, arXiv
1711.02173; Michel & Neubig 2018, arXiv 1809.00388).
"""

from collections.abc import Callable, Sequence
from random import Random

from pydantic import Field

from nemo_distill.config.section import section

KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # a letter's neighbours in a row are hit by mistake
# Marks that are written for one another.
SIMILAR = {
    ".": "!…,", ",": ".;", ";": ",:", ":": ";.", "!": ".?", "?": "!.", "…": ".", "-": "–—", "–": "-—", "—": "-–",
    '"': "“”„'", "“": '"„', "”": '"“', "„": '"“', "'": "’`\"", "’": "'`", "«": '"“', "»": '"”', "(": "[", ")": "]",
}  # fmt: skip
TAGS = ("b", "i", "u", "em", "strong", "span", "a")
EMOJI = ("🙂", "😂", "😭", "👍", "🎉", "🙏", "😍", "🤔")


def case(words: Sequence[str], probability: float, random: Random) -> list[str]:
    """Writes the sentence in lower case, in capitals, or each word with a capital."""
    if random.random() >= probability:
        return list(words)
    change = random.choice((str.lower, str.upper, str.capitalize))
    return [change(word) for word in words]


def typing(words: Sequence[str], probability: float, random: Random) -> list[str]:
    """Makes a typing error in each word with the given probability, if it has at least two letters."""
    return [_mistyped(word, random) if random.random() < probability else word for word in words]


def _mistyped(word: str, random: Random) -> str:
    letters = [place for place, letter in enumerate(word) if letter.isalpha()]
    if len(letters) < 2:
        return word
    place = random.choice(letters)
    change = random.choice((_swapped, _left_out, _doubled, _beside))
    return change(word, place, random)


def _swapped(word: str, place: int, random: Random) -> str:
    place = min(place, len(word) - 2)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _left_out(word: str, place: int, random: Random) -> str:
    return word[:place] + word[place + 1 :]


def _doubled(word: str, place: int, random: Random) -> str:
    return word[: place + 1] + word[place:]


def _beside(word: str, place: int, random: Random) -> str:
    """Replaces a letter by its neighbour on the keyboard; a letter that is not there is doubled."""
    letter = word[place]
    row = next((row for row in KEYBOARD if letter.lower() in row), None)
    if row is None:
        return _doubled(word, place, random)
    index = row.index(letter.lower())
    neighbour = random.choice(row[max(index - 1, 0) : index] + row[index + 1 : index + 2])
    return word[:place] + (neighbour.upper() if letter.isupper() else neighbour) + word[place + 1 :]


def punctuation(words: Sequence[str], probability: float, random: Random) -> list[str]:
    """Leaves out, doubles or replaces each punctuation mark with the given probability."""

    def changed(mark: str) -> str:
        if mark not in SIMILAR or random.random() >= probability:
            return mark
        return random.choice(("", 2 * mark, random.choice(SIMILAR[mark])))

    return ["".join(map(changed, word)) for word in words]


def whitespace(words: Sequence[str], probability: float, random: Random) -> list[str]:
    """Joins each word with the next one, or splits it in two, with the given probability."""
    found: list[str] = []
    joins = False
    for word in words:
        if joins:
            found[-1] += word
        else:
            found.append(word)
        joins = False
        if random.random() < probability:
            joins = random.random() < 0.5
            if not joins and len(found[-1]) > 1:
                place = random.randrange(1, len(found[-1]))
                found[-1:] = [found[-1][:place], found[-1][place:]]
    return found


def tags(words: Sequence[str], probability: float, random: Random) -> list[str]:
    """Puts an inline tag such as `<b>` around some successive words."""
    if random.random() >= probability:
        return list(words)
    first, last = sorted(random.choices(range(len(words)), k=2))
    tag, found = random.choice(TAGS), list(words)
    found[first] = f"<{tag}>{found[first]}"
    found[last] = f"{found[last]}</{tag}>"
    return found


def emoji(words: Sequence[str], probability: float, random: Random) -> list[str]:
    """Adds an emoji at one end of the sentence, usually the last."""
    if random.random() >= probability:
        return list(words)
    sign = random.choice(EMOJI)
    return [sign, *words] if random.random() < 0.2 else [*words, sign]


TEXT_NOISE: dict[str, Callable[[Sequence[str], float, Random], list[str]]] = {
    function.__name__: function for function in (case, typing, punctuation, whitespace, tags, emoji)
}


@section
class TextNoise:
    """The kinds of noise, and how often they occur."""

    case: float = Field(default=0.0, ge=0, lt=1)
    """Probability of writing a sentence in lower case, in capitals, or each word with a capital."""
    typing: float = Field(default=0.0, ge=0, lt=1)
    """Probability of a typing error in a word: letters swapped, left out, doubled, or hit beside on the keyboard."""
    punctuation: float = Field(default=0.0, ge=0, lt=1)
    """Probability of leaving out, doubling or replacing a punctuation mark."""
    whitespace: float = Field(default=0.0, ge=0, lt=1)
    """Probability of joining a word with the next one, or of splitting it in two."""
    tags: float = Field(default=0.0, ge=0, lt=1)
    """Probability of an inline tag, such as `<b>`, around words of a sentence. The student learns to leave it out, as
    the target has none."""
    emoji: float = Field(default=0.0, ge=0, lt=1)
    """Probability of adding an emoji to a sentence. The student learns to leave it out, as the target has none."""

    @property
    def changes_text(self) -> bool:
        """True if there is any noise of the text."""
        return any(getattr(self, name) for name in TEXT_NOISE)

    def of_text(self, words: Sequence[str], random: Random) -> Sequence[str]:
        """Returns the words of a sentence with noise of the text."""
        for name, function in TEXT_NOISE.items():
            if (probability := getattr(self, name)) and words:
                words = [word for word in function(words, probability, random) if word] or words
        return words
