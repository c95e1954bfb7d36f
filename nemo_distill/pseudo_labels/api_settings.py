"""How a server with an OpenAI-compatible API is asked for translations."""

import os
import re
from typing import Any
from urllib.parse import urlsplit

import requests
from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.pseudo_labels.text_teacher import Pattern

# What decides about the answers; the other keys may change between a job and its continuation.
DECISIVE = ("url", "prompt", "system", "answer", "samples", "temperature", "top_p", "max_tokens", "seed", "extra")
KEY = re.compile("[!-~]+")  # what an HTTP header can hold
SINGLE = ("n", "stream")  # keys of a request, for other answers than one that is whole
PROMPT = (
    "Translate the following text from {source_language} to {target_language}. Write only the translation, between "
    "<translation> and </translation>.\n\n{source}"
)


@section
class ApiSettings:
    """How `engine=api` asks a server for translations."""

    url: str | None = None
    """The base URL, such as `http://127.0.0.1:8000/v1`."""
    key_variable: str | None = None
    """The environment variable that holds the key, such as `OPENAI_API_KEY`; null: the server needs no key."""
    prompt: str = PROMPT
    """The user's message. `{source}` stands for the line; `{source_language}` and `{target_language}` for those keys,
    best written as names such as `German`."""
    system: str | None = None
    """The system's message; null: none."""
    answer: Pattern | None = ".*<translation>(.*?)</translation>"
    """A regular expression. Its group in the last match is the translation. An answer without a match has failed.
    null: the whole answer, which has failed if it has several lines. What a model thinks before `</think>` is no part
    of its answer."""
    samples: int = Field(default=1, ge=1)
    """Number of translations of each line. Each is a request of its own, because not all servers support `n`."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """As the server's `top_p`."""
    max_tokens: int | None = Field(default=1024, ge=1)
    """The most tokens of an answer; null: not sent."""
    seed: int = 0
    """Each line and sample has a seed of its own, derived from this one; not sent at temperature 0."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further keys of the request, such as `{max_completion_tokens: 512}`. null removes a key that the server refuses,
    as in `{temperature: null}`. No secrets: they are recorded."""
    concurrency: int = Field(default=8, ge=1)
    """Requests at the same time."""
    timeout: float = Field(default=120.0, gt=0)
    """Seconds without any sign of the server, after which a request has failed."""
    retries: int = Field(default=5, ge=0)
    """Further attempts, if the server is busy, fails or cannot be reached."""
    backoff: float = Field(default=1.0, ge=0)
    """Seconds before the first of them; doubled each time, and changed at random. The server may ask for more."""
    max_requests: int | None = Field(default=None, ge=1)
    """The job stops at so many requests, retries and earlier runs included; raise it and the same command goes on."""
    max_total_tokens: int | None = Field(default=None, ge=1)
    """The same for the tokens of prompts and answers. Requests on their way are still finished."""
    input_price: float | None = Field(default=None, ge=0)
    """Price of a million tokens of prompts, for the bill."""
    output_price: float | None = Field(default=None, ge=0)
    """Price of a million tokens of answers."""

    def problems(self) -> list[str]:
        """Returns a sentence for each key that cannot be used as it is."""
        problems = []
        if self.url is not None and not _is_plain_url(self.url):
            problems.append(
                "url must begin with http:// or https:// and a host, and hold no user, password, query or fragment."
            )
        if "{source}" not in self.prompt:
            problems.append("prompt must contain {source}, which stands for the line.")
        if self.samples > 1 and self.temperature == 0:
            problems.append(f"samples={self.samples}: all are equal at temperature=0; raise the temperature.")
        if self.key_variable is not None:
            problems += _key_problems(self.key_variable)
        problems += [f"extra has the key '{key}'; set samples instead." for key in SINGLE if key in self.extra]
        if (self.input_price is None) != (self.output_price is None):
            problems.append("input_price and output_price: give both or neither.")
        return problems

    def decisive(self) -> dict[str, Any]:
        """Returns the settings that the answers depend on."""
        return {key: getattr(self, key) for key in DECISIVE}


def _key_problems(variable: str) -> list[str]:
    key = os.environ.get(variable)
    if not key:
        return [f"key_variable={variable}: the environment has no such variable, or it is empty."]
    if not KEY.fullmatch(key):
        return [f"key_variable={variable}: the variable must not hold spaces, line ends or characters beyond ASCII."]
    return []


def _is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(requests.Request("POST", url).prepare().url)
        str(parts.hostname).encode("idna")  # as urllib3 does, whose error requests does not catch
    except ValueError:
        return False
    extras = (parts.username, parts.password, parts.query, parts.fragment)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(extras)
