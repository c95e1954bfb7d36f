"""What every engine that translates looks like from outside: ours, NeMo's and CTranslate2's exchange by a word."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.storage.records import CLOSED


@dataclass(frozen=True)
class Hypothesis:
    """One translation.

    Args:
        text: ready to be read: detokenized, without special symbols.
        score: its summed log-probability, the end of the sentence included if it came to one, divided by the length
            penalty. It is the model's own, whatever temperature, `top_k` or `top_p` a sample was drawn with; a token
            that every translation into a language begins with counts neither in the sum nor in the length.
        finished: false if the length limit cut it off.
    """

    __pydantic_config__ = CLOSED  # of the lines of shards
    text: str
    score: float
    finished: bool = True


@dataclass(frozen=True)
class Translation:
    """All that a search gave for one line.

    Args:
        hypotheses: the best first; as many as `SearchSettings.n_best`, fewer if the search found fewer.
        source_cut: the line was longer than the model reads, and only its beginning was translated.
    """

    hypotheses: tuple[Hypothesis, ...]
    source_cut: bool = False

    @property
    def text(self) -> str:
        """The best hypothesis."""
        return self.hypotheses[0].text


EMPTY = Translation((Hypothesis("", 0.0),))


class Engine(Protocol):
    """Something that translates lines of raw text.

    What it gives for a line must not depend on the lines beside it.
    """

    def translate(self, lines: Sequence[str], settings: SearchSettings) -> list[Translation]:
        """Translates `lines`, in their order; one of white space alone, or without any token, gives `EMPTY`."""


def translate_stream(
    engine: Engine, lines: Iterable[str], settings: SearchSettings, chunk: int = 2048
) -> Iterator[Translation]:
    """Translates any number of lines in their order, holding no more than `chunk` of them at a time.

    The engine sorts by length within a chunk: larger ones decode faster, smaller ones answer sooner.
    """
    lines = iter(lines)
    while part := list(islice(lines, chunk)):
        yield from engine.translate(part, settings)
