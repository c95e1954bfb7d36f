"""Translates through a server with an OpenAI-compatible API, such as vLLM, Ollama, llama.cpp or a provider.

Each answer is written to a journal as soon as it arrives, so that a job that is interrupted does not ask again for a
translation that it has. Failed answers are asked for again. The bill is the sum over the journals. The key comes from
an environment variable. It is sent to the server, and it appears in no record, log or message.
"""

import json
import os
import random
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from nemo_distill.config.errors import DataError
from nemo_distill.console import console
from nemo_distill.decoding.engine import Hypothesis, Translation, sample_seed
from nemo_distill.pseudo_labels.api_journal import Answer, Bill, appended, read_journal
from nemo_distill.pseudo_labels.api_settings import ApiSettings
from nemo_distill.pseudo_labels.generate import Failure
from nemo_distill.pseudo_labels.shards import BILL, FAILED
from nemo_distill.pseudo_labels.text_teacher import NO_SCORE
from nemo_distill.storage.files import write_json
from nemo_distill.text.lines import line_hash

FATAL = (401, 404)  # the key, the URL or the model is wrong: no other line would fare better
PASSING = (408, 409, 425, 429)  # besides all from 500 on
LONGEST_WAIT = 300.0  # seconds before a retry, whatever the server asks for
OF_LINE = (400, 413, 422)  # the line is refused, by a content policy or for its length; others may fare better
ANSWERS = "answers"  # the folder of the journals
GIVE_UP = 20  # failures in a row, after which the job stops
LOCAL = re.compile(r"localhost|127\.[0-9.]+|::1")  # the names of this machine
DIRECT = dict.fromkeys(("http", "https", "all"))  # no proxy, whatever the environment says
PLACE = re.compile(r"\{(?:source|source_language|target_language)\}")
SHOWN = 200  # characters of a server's message
CUT = ("length", "content_filter", "abort", "error")  # the values of `finish_reason` after only a part of an answer


class _FailedError(Exception):
    """An attempt failed. `passing` says if another one may succeed, after `wait` seconds if the server asks for it.

    `of_line` says that the server works, but refuses this line.
    """

    def __init__(self, message: str, passing: bool, wait: float = 0.0, of_line: bool = False):
        super().__init__(message)
        self.passing, self.wait, self.of_line = passing, wait, of_line


class _Key(AuthBase):
    """Sends the key. As an `auth`, it also keeps `requests` from sending what a netrc file has."""

    def __init__(self, key: str | None):
        self.key = key

    def __call__(self, request: Any) -> Any:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


class ApiTeacher:
    """Returns a server's translations by line number.

    Args:
        model: the model's name at the server.
        languages: the names of source and target languages for the prompt.
        folder: the folder of the labels. The journals are in `answers/`, in a folder for each set of settings.
        digest: identifies the settings of the labels.
    """

    def __init__(
        self, model: str, settings: ApiSettings, languages: tuple[str | None, str | None], folder: Path, digest: str
    ):
        self.model, self.settings, self.languages = model, settings, languages
        self.bill, self._bill_path = Bill(settings.input_price, settings.output_price), folder / BILL
        self._journals = folder / ANSWERS / digest
        self._journals.mkdir(parents=True, exist_ok=True)
        self._any_usable = False
        for path in self._journals.glob("*.jsonl"):
            for answer in read_journal(path):
                self.bill.add(answer)
                self._any_usable |= answer.text is not None
        self._key = os.environ.get(settings.key_variable) if settings.key_variable else None
        self._lock, self._sessions = threading.Lock(), threading.local()
        self._stop, self._stopped_by = threading.Event(), ""
        self._failed_in_a_row = 0

    def translate(self, first_line: int, texts: Sequence[str]) -> list[Translation | Failure]:
        """Returns the translations of `len(texts)` lines, starting at line number `first_line`.

        Raises:
            DataError: if a ceiling is reached, the server refuses all requests or fails many times in a row, or none
                of its first answers is usable.
        """
        path = self._journals / f"{first_line:012d}.jsonl"
        wanted = {
            (line, sample, line_hash(text.encode())): text
            for line, text in enumerate(texts, start=first_line)
            for sample in range(self.settings.samples)
            if text
        }
        answered = {(one.line, one.sample, one.hash): one for one in read_journal(path) if one.text is not None}
        known = {(one.line, one.sample): one for key, one in answered.items() if key in wanted}
        open_ones = {Answer(*key): text for key, text in wanted.items() if key not in answered}
        known |= {(one.line, one.sample): one for one in self._ask_all(path, open_ones)}
        return [self._translation(known, line) for line in range(first_line, first_line + len(texts))]

    def _translation(self, known: Mapping[tuple[int, int], Answer], line: int) -> Translation | Failure:
        found = [known[line, sample] for sample in range(self.settings.samples) if (line, sample) in known]
        hypotheses = [Hypothesis(one.text, NO_SCORE, one.finished) for one in found if one.text is not None]
        return Translation(tuple(hypotheses)) if hypotheses else Failure(FAILED)

    def _ask_all(self, path: Path, wanted: Mapping[Answer, str]) -> list[Answer]:
        with appended(path) as journal:
            try:
                with ThreadPoolExecutor(self.settings.concurrency) as pool:
                    try:
                        answers = list(pool.map(partial(self._ask_one, journal), wanted, wanted.values()))
                    except BaseException:  # Ctrl-C, or a full disk
                        self._stop.set()
                        console.info("Waiting for the answers that are on their way, so that they are not lost.")
                        raise
            finally:
                write_json(self._bill_path, self.bill.record())
        if self._stopped_by:
            raise DataError(
                f"{self._stopped_by}. Then the same command goes on where it was. There were {self.bill.words()}."
            )
        return answers

    def _ask_one(self, journal: BinaryIO, wanted: Answer, text: str) -> Answer:
        """Asks for a sample, again if necessary, and writes what became of it."""
        answer, server_failed = wanted, False
        for attempt in range(self.settings.retries + 1):
            if not self._may_ask():
                break
            try:
                answer, server_failed = self._attempt(answer, text), False
                break
            except _FailedError as error:
                answer = replace(answer, error=str(error), requests=answer.requests + 1)
                server_failed = not error.of_line
                if not error.passing or attempt == self.settings.retries:
                    break
                wait = self.settings.backoff * 2**attempt * random.uniform(0.5, 1.5)
                self._stop.wait(min(max(wait, error.wait), LONGEST_WAIT))
        if answer.requests:
            self._note(journal, answer, server_failed)
        return answer

    def _may_ask(self) -> bool:
        """Counts a request, unless the job has to stop."""
        with self._lock:
            for name, used in (("max_requests", self.bill.requests), ("max_total_tokens", self.bill.tokens)):
                if (most := getattr(self.settings, name)) is not None and used >= most:
                    self._stop_because(f"api.{name}={most} is reached; raise it")
            if self._stop.is_set():
                return False
            self.bill.requests += 1
            return True

    def _stop_because(self, reason: str) -> None:
        self._stopped_by = self._stopped_by or reason
        self._stop.set()

    def _note(self, journal: BinaryIO, answer: Answer, server_failed: bool) -> None:
        """Writes what became of a sample. Stops the job if the server, the prompt or the pattern cannot be right.

        Where some answers are usable, many others in a row say only that their lines are hard.
        """
        with self._lock:
            journal.write(json.dumps(asdict(answer), ensure_ascii=False).encode() + b"\n")
            journal.flush()
            self._any_usable |= answer.text is not None
            self._failed_in_a_row = self._failed_in_a_row + 1 if server_failed or not self._any_usable else 0
            if self._failed_in_a_row >= GIVE_UP:
                self._stop_because(
                    f"{GIVE_UP} answers in a row failed, the last one by: {answer.error}; see to the server, "
                    "api.prompt and api.answer"
                )

    def _attempt(self, answer: Answer, text: str) -> Answer:
        """Returns the answer to one request.

        Raises:
            _FailedError: if the server has not answered.
        """
        body = self._post(self._request(answer, text))
        usage, choice = body.get("usage"), _first_choice(body)
        answer = self._with_usage(answer, usage if isinstance(usage, dict) else {})
        finished = choice.get("finish_reason") not in CUT
        translation, error = self._translation_in(_content(choice), finished)
        return replace(answer, text=translation, error=error, finished=finished, requests=answer.requests + 1)

    def _with_usage(self, answer: Answer, usage: Mapping[str, Any]) -> Answer:
        used = [usage.get(key) for key in ("prompt_tokens", "completion_tokens")]
        prompt, completion = (count if isinstance(count, int) and count >= 0 else 0 for count in used)
        with self._lock:
            self.bill.prompt_tokens += prompt
            self.bill.completion_tokens += completion
            if self.settings.max_total_tokens is not None and not prompt + completion:
                self._stop_because("api.max_total_tokens: the server does not count tokens; leave it out")
        return replace(
            answer,
            prompt_tokens=answer.prompt_tokens + prompt,
            completion_tokens=answer.completion_tokens + completion,
        )

    def _translation_in(self, content: str, finished: bool) -> tuple[str | None, str | None]:
        """Returns the translation in an answer, or None and what is wrong with the answer."""
        content = content.rpartition("</think>")[2]
        cut = "" if finished else ", which max_tokens or a filter has cut off"
        if not content.strip():
            return None, f"the answer is empty{cut}"
        if self.settings.answer is None:
            text = content.strip()
            return (None, f"the answer has several lines{cut}") if "\n" in text else (text, None)
        # A match of nothing, which `(.*)` has after that of all, is none.
        found = [match for match in re.finditer(self.settings.answer, content, re.DOTALL) if match[0]]
        if not found:
            return None, f"api.answer matches nothing in the answer{cut}"
        text = found[-1][found[-1].re.groups and 1]
        return (None, "api.answer's group matches nothing in the answer") if text is None else (text.strip(), None)

    def _request(self, answer: Answer, text: str) -> dict[str, Any]:
        settings = self.settings
        places = {"{source}": text, "{source_language}": self.languages[0], "{target_language}": self.languages[1]}
        prompt = PLACE.sub(lambda match: str(places[match[0]]), settings.prompt)
        messages = [{"role": "system", "content": settings.system}] if settings.system else []
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [*messages, {"role": "user", "content": prompt}],
            "temperature": settings.temperature,
        }
        if settings.max_tokens is not None:
            body["max_tokens"] = settings.max_tokens
        if settings.temperature:
            body |= {"top_p": settings.top_p, "seed": sample_seed(settings.seed, answer.sample, text)}
        return {key: value for key, value in (body | settings.extra).items() if value is not None}

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the body of the server's answer.

        Raises:
            _FailedError: if there is none.
        """
        session = self._session()
        url = f"{str(self.settings.url).rstrip('/')}/chat/completions"
        # By default, requests asks a proxy of the environment for this machine too, which would mean the proxy's own.
        proxies = DIRECT if LOCAL.fullmatch(urlsplit(url).hostname or "") else None
        sending: dict[str, Any] = {"timeout": self.settings.timeout, "auth": _Key(self._key), "proxies": proxies}
        try:
            response = session.post(url, json=body, allow_redirects=False, **sending)
        except requests.RequestException as error:
            raise _FailedError(f"no answer from '{url}': {type(error).__name__}", passing=True) from error
        if response.status_code != 200:
            raise self._refusal(response, response.status_code)
        try:
            found = response.json()
        except ValueError as error:
            raise _FailedError("the server's answer is not JSON", passing=True) from error
        if not isinstance(found, dict):
            raise _FailedError("the server's answer is not a JSON object", passing=True)
        if failure := found.get("error") or _first_choice(found).get("error"):  # some send it with the status 200
            code = failure.get("code") if isinstance(failure, dict) else None
            raise self._refusal(response, code if isinstance(code, int) else 500)
        return found

    def _refusal(self, response: requests.Response, status: int) -> _FailedError:
        """Returns the error for a status other than 200. Stops the job if no other request would fare better."""
        said = " ".join(response.text.split())[:SHOWN]
        said = said.replace(self._key, "***") if self._key else said
        message = f"the server answered {response.status_code} {response.reason}: {said}"
        if status in FATAL or 300 <= status < 400:
            with self._lock:
                self._stop_because(f"{message}; correct api.url, api.key_variable or model")
        wait = _seconds(response.headers.get("Retry-After"))
        return _FailedError(message, status in PASSING or status >= 500, wait, status in OF_LINE)

    def _session(self) -> requests.Session:
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()  # one for each thread
        return self._sessions.session


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def _content(choice: Mapping[str, Any]) -> str:
    """Returns the text of an answer; "" if there is none. Lone surrogates, which no file can hold, become `?`.

    Mistral's models that think send a list, with a part for what they think and others for the text.
    """
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content.encode("utf-8", "replace").decode() if isinstance(content, str) else ""


def _seconds(header: str | None) -> float:
    """Returns the seconds of a `Retry-After` header; 0 if it is missing or a date."""
    return float(header) if header and header.strip().isdecimal() else 0.0
