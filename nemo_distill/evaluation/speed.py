"""Measures the speed and memory use of systems, in alternation."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.managers import BaseManager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.console import console, set_up_console
from nemo_distill.decoding.engine import Engine, Translation
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.systems import System
from nemo_distill.metrics.scores import build_metric

MEGABYTE = 1_000_000
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # CTranslate2 reads the first, PyTorch rather the second


@section
class SpeedSettings:
    """The settings of speed measurements."""

    sentences: int = Field(default=200, ge=1)
    """Number of sentences translated together, from the start of the first test set."""
    latency_sentences: int = Field(default=50, ge=1)
    """Number of sentences translated one at a time, from the start of the first test set."""
    rounds: int = Field(default=3, ge=1)
    """Number of rounds. In each round, every system runs once. A warm-up run before is not measured."""


@dataclass(frozen=True)
class Speed:
    """The speed of a system.

    Args:
        sentences_per_second: when translating together; the median round.
        tokens_per_second: the same in tokens. Tokens of the translations are counted with BLEU's tokenization, so
            that systems with different vocabularies are comparable.
        latency_ms_median: median time of one sentence translated alone, over all rounds.
        latency_ms_p95: the 95th percentile of these times.
        peak_memory_mb: peak main memory of the process, including Python, imported libraries, weights and buffers,
            but not GPU memory. For small models, the libraries need most of it, so compare only systems with the same
            engine.
    """

    sentences_per_second: float
    tokens_per_second: float
    latency_ms_median: float
    latency_ms_p95: float
    peak_memory_mb: float


def timed_translations(
    engine: Engine, lines: Sequence[str], search: SearchSettings
) -> tuple[list[Translation], float]:
    """Returns the translations of lines, and the seconds that they took."""
    started = time.perf_counter()
    return engine.translate(lines, search), time.perf_counter() - started


class TimedSystem:
    """A system loaded in its own process."""

    def __init__(
        self,
        system: System,
        lines: Sequence[str],
        alone: int,
        search: SearchSettings,
        device: str,
        language: str | None = None,
    ):
        self._engine = system.load(device)
        self._lines, self._alone, self._search = lines, lines[:alone], system.searched(search)
        self._tokenize = build_metric("BLEU", language).tokenizer
        self.together()

    def together(self) -> tuple[float, int]:
        """Returns the seconds for all lines together, and the number of tokens in their translations."""
        translations, seconds = timed_translations(self._engine, self._lines, self._search)
        return seconds, sum(len(self._tokenize(translation.text).split()) for translation in translations)

    def latencies(self) -> list[float]:
        """Returns the seconds for each line alone."""
        return [timed_translations(self._engine, [line], self._search)[1] for line in self._alone]

    def peak_memory(self) -> float:
        """Returns the peak main memory of this process in megabytes.

        `getrusage` is not used, because it includes the memory of the parent at the start of this process.
        """
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        (peak,) = (line for line in status if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / MEGABYTE


class _OwnProcess(BaseManager):
    """A fresh process that holds a `TimedSystem`."""

    timed: Callable[..., Any]  # what `register` adds


_OwnProcess.register("timed", TimedSystem)


def _start_quietly() -> None:
    """Leaves warnings to scoring, and ends this process with its parent. Else it would keep its model in memory."""
    set_up_console()
    console.setLevel(logging.ERROR)

    def wait() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()


@contextmanager
def _threads_of_children(threads: int) -> Iterator[None]:
    """Within this context, new processes use `threads` threads. Engines read these settings when they start."""
    before = {name: os.environ[name] for name in THREADS if name in os.environ}
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    try:
        yield
    finally:
        for name in THREADS:
            del os.environ[name]
        os.environ.update(before)


def measure(
    systems: Sequence[System],
    lines: Sequence[str],
    settings: SpeedSettings,
    search: SearchSettings,
    device: str,
    threads: int,
    language: str | None = None,
) -> list[Speed]:
    """Measures all systems in alternation, so that other load on the machine affects them equally.

    Args:
        systems: the systems. Each is loaded in its own fresh process and stays loaded until the end.
        lines: the sentences to translate.
        settings: the numbers of sentences and rounds.
        search: the search settings.
        device: `cpu`, `cuda`, ...
        threads: number of CPU threads per system.
        language: the target language, which determines how tokens are counted.
    """
    context = get_context("spawn")
    processes = [_OwnProcess(ctx=context) for _ in systems]
    sample = list(lines[: settings.sentences])
    try:
        with _threads_of_children(threads):
            for process in processes:
                process.start(_start_quietly)
        pairs = zip(processes, systems)
        timed = [
            process.timed(system, sample, settings.latency_sentences, search, device, language)
            for process, system in pairs
        ]
        rounds = [[(one.together(), one.latencies()) for one in timed] for _ in range(settings.rounds)]
        return [_speed(turns, len(sample), one.peak_memory()) for turns, one in zip(zip(*rounds), timed)]
    finally:
        for process in processes:
            if hasattr(process, "shutdown"):  # only if it was started
                process.shutdown()


def _speed(turns: Sequence[tuple[tuple[float, int], list[float]]], sentences: int, peak_memory: float) -> Speed:
    seconds = float(np.median([together[0] for together, _ in turns]))
    milliseconds = 1000 * np.concatenate([latencies for _, latencies in turns])
    median, high = np.percentile(milliseconds, (50, 95))
    return Speed(sentences / seconds, turns[0][0][1] / seconds, float(median), float(high), peak_memory)
