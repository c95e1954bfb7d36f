"""Shows the progress and the results of jobs that process text."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from nemo_distill.console import console, print_table

LOG_SECONDS = 60  # interval between log lines if there is no terminal for a progress bar


class Meter:
    """Computes the rate and the remaining time, ignoring work that was already done before.

    Args:
        total: the final position, in the unit of the positions; infinite if unknown.
    """

    def __init__(self, total: float, unit: str = "lines"):
        self.total = total
        self.unit = unit
        self.position = 0.0
        self.done = 0
        self._began_at, self._began = 0.0, time.monotonic()

    def advance(self, position: float, done: int) -> None:
        """Adds `done` units and sets the position."""
        if not self.done and not done:  # work done earlier is skipped quickly and does not count
            self._began_at, self._began = position, time.monotonic()
        self.position, self.done = position, self.done + done

    def __str__(self) -> str:
        seconds, gained = time.monotonic() - self._began, self.position - self._began_at
        if not self.done or gained <= 0:
            return ""
        rate = self.done / max(seconds, 1e-3)
        shown = f"{rate:,.0f} {self.unit}/s" if rate >= 10 else f"{rate:.2g} {self.unit}/s"
        if math.isinf(self.total):
            return shown
        return f"{shown}, {timedelta(seconds=round(seconds * (self.total - self.position) / gained))} left"


@contextmanager
def shown_progress(
    label: str, total: float, shown: bool = True, unit: str = "lines"
) -> Iterator[Callable[[float, int], None]]:
    """Shows progress. Yields a function to call with the position and the units done since the last call.

    Args:
        shown: set it to False in all processes but one.
    """
    meter = Meter(total, unit)
    if not shown:
        yield meter.advance
    elif Console().is_terminal:
        with _bar() as bar:
            yield partial(_draw, meter, bar, bar.add_task(label, total=total, rate=""))
    else:
        yield MinuteLog(label, meter)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"))
    return Progress(*columns, transient=True)


def _draw(meter: Meter, bar: Progress, task: Any, position: float, done: int) -> None:
    meter.advance(position, done)
    bar.update(task, completed=position, rate=str(meter))


class MinuteLog:
    """Logs one line per minute, for logs in which a progress bar would be too long."""

    def __init__(self, label: str, meter: Meter):
        self.label, self.meter = label, meter
        self._said = time.monotonic()

    def __call__(self, position: float, done: int, also: Callable[[], str] = str) -> None:
        """Updates the position and the units done since the last call.

        Args:
            also: returns text for the end of the line.
        """
        self.meter.advance(position, done)
        if time.monotonic() - self._said > LOG_SECONDS:
            self._said = time.monotonic()
            share = "" if math.isinf(self.meter.total) else f"{position / self.meter.total:.1%}"
            console.info(f"{self.label}: {', '.join(filter(None, [share, str(self.meter), also()]))}")


def print_counts(title: str, counts: Mapping[str, int], lines: int) -> None:
    """Prints a table of counts, with the share of each in `lines`."""
    print(f"{title}:")
    rows = [
        (name.replace("_", " "), f"{count:,}", f"{count / lines:.2%}" if lines else "")
        for name, count in {"all": lines, **counts}.items()
    ]
    print_table(("", "lines", "share"), rows)
