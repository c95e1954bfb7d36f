"""The journal of a server's answers, and the bill that follows from it.

An answer is a line of JSON, appended as soon as it arrives. An interrupted job does not ask again for what it has.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nemo_distill.storage.records import CLOSED, parse_json


@dataclass(frozen=True)
class Answer:
    """A line of a journal: what became of a sample of a source line.

    Args:
        sample: the number of the sample, from 0.
        text: the translation; None if there is none.
        finished: False if the answer was cut off, by `max_tokens` or a filter.
        error: why there is no translation.
        requests: the attempts that were made.
        prompt_tokens: tokens of all of them.
        completion_tokens: tokens of all of them.
    """

    __pydantic_config__ = CLOSED
    line: int
    sample: int
    hash: str
    text: str | None = None
    finished: bool = True
    error: str | None = None
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class Bill:
    """What was used so far, by this run and by earlier ones.

    Args:
        input_price: of a million tokens of prompts, if it is known.
        output_price: of a million tokens of answers, if it is known.
    """

    input_price: float | None
    output_price: float | None
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, answer: Answer) -> None:
        """Adds what an answer of an earlier run used."""
        self.requests += answer.requests
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens

    def record(self) -> dict[str, Any]:
        """Returns the bill as a record, with its cost if the prices are known."""
        used = {name: getattr(self, name) for name in ("requests", "prompt_tokens", "completion_tokens")}
        if self.input_price is None or self.output_price is None:
            return used
        cost = self.prompt_tokens * self.input_price + self.completion_tokens * self.output_price
        return used | {"cost": round(cost / 1e6, 6)}

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def words(self) -> str:
        """Returns the bill in words."""
        cost = self.record().get("cost")
        price = "" if cost is None else f", which cost {cost:,.2f}"
        return (
            f"{self.requests:,} requests so far, with {self.prompt_tokens:,} tokens of prompts and "
            f"{self.completion_tokens:,} of answers{price}"
        )


@contextmanager
def appended(path: Path) -> Iterator[BinaryIO]:
    """Opens a journal at its end. Removes what a killed process left of its last line."""
    with path.open("ab+") as stream:
        stream.seek(0)
        content = stream.read()
        stream.truncate(content.rfind(b"\n") + 1)
        yield stream
        os.fsync(stream.fileno())


def read_journal(path: Path) -> Iterator[Answer]:
    """Yields the answers in a journal, which may not exist. An unfinished last line is left out.

    Raises:
        DataError: if a line is not an answer.
    """
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.endswith(b"\n"):
                yield parse_json(line, Answer, f"'{path}', line {number},")
