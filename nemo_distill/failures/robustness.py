"""Small changes of the source that a translation should survive: a full stop, no capitals, one typing error.

Noised copies of a test set are made with a seed. Each system translates the copies too. A sentence is fragile if the
score of its translation drops much. Belinkov & Bisk 2018 (arXiv 1711.02173) and Karpukhin et al. 2019 (arXiv
1902.01509) measure the drop with such noise.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Literal, get_args

import regex
from sacrebleu import sentence_chrf

from nemo_distill.failures.segment import Found

Noise = Literal["full_stop", "lower_case", "typing_error"]
NOISES: tuple[Noise, ...] = get_args(Noise)
ENDED = regex.compile(r"[^\p{L}\p{M}\p{N}]$")
LONG_WORD = regex.compile(r"\b\p{L}[\p{L}\p{M}]{3,}\b")


def noised(lines: Sequence[str], noise: Noise, seed: int) -> list[str]:
    """Returns a copy of the lines with noise. A line that cannot have this noise stays as it is.

    Args:
        noise: `full_stop` adds one where a line ends with a letter or digit; `lower_case` takes the capitals;
            `typing_error` swaps, drops or doubles a letter inside one word of at least four letters.
        seed: a line's error depends on the seed, the line and its number only.
    """
    make: dict[Noise, Callable[[str, Random], str]] = {
        "full_stop": lambda line, random: line if not line or ENDED.search(line) else f"{line}.",
        "lower_case": lambda line, random: line.lower(),
        "typing_error": _mistyped,
    }
    return [make[noise](line, Random(f"{seed} {number} {line}")) for number, line in enumerate(lines)]


def _mistyped(line: str, random: Random) -> str:
    found = list(LONG_WORD.finditer(line))
    if not found:
        return line
    word = random.choice(found)
    place = random.randrange(word.start() + 1, word.end() - 2)  # neither the first letter nor the last
    one, next_one = line[place], line[place + 1]
    if one == next_one:
        return line[:place] + line[place + 1 :]
    typed = random.choice([next_one + one, next_one, one + one + next_one])
    return line[:place] + typed + line[place + 2 :]


def fragile(translation: str, noised_translation: str, reference: str, drop: float) -> Found:
    """Returns both scores if the translation of a noised source is worse than that of the source.

    Args:
        drop: points of chrF from which a translation is worse.
    """
    if translation == noised_translation:
        return []
    before, after = (sentence_chrf(text, [reference]).score for text in (translation, noised_translation))
    return [f"chrF {before:.0f}, then {after:.0f}: {noised_translation}"] if before - after >= drop else []
