"""The common interface of all translation engines."""

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

from nemo_distill.config.errors import NotFiniteError
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.storage.records import CLOSED

FIRST_PART = 128  # lines
OVERFLOW = (
    "A translation has a score that is no number, because values in the model overflow; use another dtype, such as "
    "bfloat16 or float32."
)


@dataclass(frozen=True)
class Hypothesis:
    """One translation.

    Args:
        text: the final text, detokenized and without special symbols.
        score: the sum of log-probabilities, including the end of sentence if it was reached, divided by the length
            penalty. They are probabilities among the tokens that may be generated, without padding and unknown words.
            Temperature, `top_k` and `top_p` of a sample do not affect it. A forced language token at the start counts
            neither in the sum nor in the length.
        finished: False if the hypothesis was cut off by the length limit.

    Raises:
        NotFiniteError: if the score is NaN, as after an overflow. The text then means nothing.
    """

    __pydantic_config__ = CLOSED  # for the lines of shards
    text: str
    score: float
    finished: bool = True

    def __post_init__(self) -> None:
        if math.isnan(self.score):
            raise NotFiniteError(OVERFLOW)


@dataclass(frozen=True)
class Translation:
    """The result of a search for one line.

    Args:
        hypotheses: the best first. Their number is `SearchSettings.n_best`, or fewer if the search found fewer.
        source_cut: True if the line was too long for the model and only its beginning was translated.
    """

    hypotheses: tuple[Hypothesis, ...]
    source_cut: bool = False

    @property
    def text(self) -> str:
        """The best hypothesis."""
        return self.hypotheses[0].text

    @property
    def is_of_nothing(self) -> bool:
        """True if the line had no tokens, so that no model has translated it."""
        return self is EMPTY


EMPTY = Translation((Hypothesis("", 0.0),))


class Engine(Protocol):
    """Translates lines of raw text.

    The result for a line must not depend on the other lines.
    """

    def translate(self, lines: Sequence[str], settings: SearchSettings) -> list[Translation]:
        """Translates `lines` and keeps their order. Blank lines, and others without a token, give `EMPTY`."""


def translate_stream(
    engine: Engine, lines: Iterable[str], settings: SearchSettings, chunk: int = 2048
) -> Iterator[Translation]:
    """Translates any number of lines and keeps their order, with at most `chunk` of them in memory."""
    return chain.from_iterable(translate_parts(engine, lines, settings, chunk))


def translate_parts(
    engine: Engine, lines: Iterable[str], settings: SearchSettings, chunk: int = 2048
) -> Iterator[list[Translation]]:
    """Translates any number of lines and yields their translations in parts, in order.

    The engine sorts each part by length. Parts of `chunk` lines are the fastest. The first ones are smaller, so that a
    progress bar soon knows the rate.
    """
    lines, size = iter(lines), min(chunk, FIRST_PART)
    while part := list(islice(lines, size)):
        yield engine.translate(part, settings)
        size = min(chunk, 2 * size)


def sample_seed(*parts: object) -> int:
    """Returns a seed below 2**31 for samples, which depends only on the texts of `parts`."""
    return zlib.crc32(" ".join(map(str, parts)).encode()) % (1 << 31)


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yields the indices of `lengths` in batches, longest first, so that a lack of memory shows at once.

    Args:
        lengths: number of tokens of each sentence.
        budget: maximum number of tokens in a batch, including padding. A longer sentence gets its own batch.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
