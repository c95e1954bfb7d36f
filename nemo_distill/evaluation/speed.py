"""How fast systems translate and how much memory they take, side by side."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.console import set_up_console
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.systems import System
from nemo_distill.metrics.scores import build_metric

MEGABYTE = 1_000_000


@section
class SpeedSettings:
    """What is timed."""

    sentences: int = Field(default=200, ge=1)
    """The first ones of the first test set, translated together."""
    latency_sentences: int = Field(default=50, ge=1)
    """The first ones, translated each alone."""
    rounds: int = Field(default=3, ge=1)
    """In each of which every system has its turn, after one that is not timed."""


@dataclass(frozen=True)
class Speed:
    """How fast a system is.

    Args:
        sentences_per_second: of the median round, translated together.
        tokens_per_second: likewise; the tokens of the translations as BLEU counts them in the test set's language,
            which is the same for all systems, whatever pieces they write.
        latency_ms_median: of one sentence by itself, over all rounds.
        latency_ms_p95: what 95 % of them stay below.
        peak_memory_mb: the most that the system's process had in main memory at a time: Python, the libraries that
            loading it imports, weights and buffers, but nothing of a GPU's. The libraries are most of it for small
            models: compare systems of one engine.
    """

    sentences_per_second: float
    tokens_per_second: float
    latency_ms_median: float
    latency_ms_p95: float
    peak_memory_mb: float


class TimedSystem:
    """A loaded system, in a process of its own."""

    def __init__(
        self,
        system: System,
        lines: Sequence[str],
        alone: int,
        search: SearchSettings,
        device: str,
        language: str | None = None,
    ):
        set_up_console()  # this process has libraries of its own to keep quiet
        self._engine = system.load(device)
        self._lines, self._alone, self._search = lines, lines[:alone], search
        self._tokenize = build_metric("BLEU", language).tokenizer
        self.together()

    def together(self) -> tuple[float, int]:
        """Returns the seconds that all lines took, and how many tokens their translations have."""
        started = time.perf_counter()
        translations = self._engine.translate(self._lines, self._search)
        seconds = time.perf_counter() - started
        return seconds, sum(len(self._tokenize(translation.text).split()) for translation in translations)

    def latencies(self) -> list[float]:
        """Returns the seconds that each line took by itself."""
        seconds = []
        for line in self._alone:
            started = time.perf_counter()
            self._engine.translate([line], self._search)
            seconds.append(time.perf_counter() - started)
        return seconds

    def peak_memory(self) -> float:
        """Returns the most megabytes that this process has had in main memory.

        `getrusage` would also count what the parent had when it started this process.
        """
        status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        (peak,) = (line for line in status if line.startswith("VmHWM:"))
        return int(peak.split()[1]) * 1024 / MEGABYTE


class _OwnProcess(BaseManager):
    """A process that starts from nothing and holds a `TimedSystem`."""

    timed: Callable[..., Any]  # what `register` adds


_OwnProcess.register("timed", TimedSystem)


@contextmanager
def _threads_of_children(threads: int) -> Iterator[None]:
    """Within this context, processes that start compute with so many threads; engines read that at their start."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def measure(
    systems: Sequence[System],
    lines: Sequence[str],
    settings: SpeedSettings,
    search: SearchSettings,
    device: str,
    threads: int,
    language: str | None = None,
) -> list[Speed]:
    """Measures all systems in turns, so that what else the machine does meets them alike.

    Args:
        systems: each loaded in a fresh process of its own; all stay loaded until the end.
        lines: sentences to translate.
        settings: how many of them, how often.
        search: how the systems search.
        device: `cpu`, `cuda`, ...
        threads: of each system's computations on the CPU.
        language: the target language, which chooses how tokens are counted.
    """
    context = get_context("spawn")
    processes = [_OwnProcess(ctx=context) for _ in systems]
    sample = list(lines[: settings.sentences])
    try:
        with _threads_of_children(threads):
            for process in processes:
                process.start()
        pairs = zip(processes, systems)
        timed = [
            process.timed(system, sample, settings.latency_sentences, search, device, language)
            for process, system in pairs
        ]
        rounds = [[(one.together(), one.latencies()) for one in timed] for _ in range(settings.rounds)]
        return [_speed(turns, len(sample), one.peak_memory()) for turns, one in zip(zip(*rounds), timed)]
    finally:
        for process in processes:
            if hasattr(process, "shutdown"):  # it has been started
                process.shutdown()


def _speed(turns: Sequence[tuple[tuple[float, int], list[float]]], sentences: int, peak_memory: float) -> Speed:
    seconds = float(np.median([together[0] for together, _ in turns]))
    milliseconds = 1000 * np.concatenate([latencies for _, latencies in turns])
    median, high = np.percentile(milliseconds, (50, 95))
    return Speed(sentences / seconds, turns[0][0][1] / seconds, float(median), float(high), peak_memory)
