"""What a job on text says while it works and when it is done."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from nemo_distill.core.console import console

LOG_SECONDS = 60  # between two lines where there is no terminal to draw a bar on


class Meter:
    """Rate and time left, from the first line on that was translated now and not before.

    Args:
        total: where the work ends, in whatever unit positions have.
    """

    def __init__(self, total: float):
        self.total = total
        self.position = 0.0
        self.lines = 0
        self._began_at, self._began = 0.0, time.monotonic()

    def advance(self, position: float, lines: int) -> None:
        """Takes note of `lines` more, and of the position reached."""
        if not self.lines and not lines:  # what was done before is passed over quickly
            self._began_at, self._began = position, time.monotonic()
        self.position, self.lines = position, self.lines + lines

    def __str__(self) -> str:
        seconds, gained = time.monotonic() - self._began, self.position - self._began_at
        if not self.lines or gained <= 0:
            return ""
        left = timedelta(seconds=round(seconds * (self.total - self.position) / gained))
        return f"{self.lines / max(seconds, 1e-3):,.0f} lines/s, {left} left"


@contextmanager
def shown_progress(label: str, total: float, shown: bool = True) -> Iterator[Callable[[float, int], None]]:
    """Yields what is to be called with the position reached and the lines done since the last call.

    Args:
        label: what is being done.
        total: the last position.
        shown: false for all processes but one.
    """
    meter = Meter(total)
    if not shown:
        yield meter.advance
    elif Console().is_terminal:
        with _bar() as bar:
            yield partial(_draw, meter, bar, bar.add_task(label, total=total, rate=""))
    else:
        yield _Log(label, meter)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"))
    return Progress(*columns, transient=True)


def _draw(meter: Meter, bar: Progress, task: Any, position: float, lines: int) -> None:
    meter.advance(position, lines)
    bar.update(task, completed=position, rate=str(meter))


class _Log:
    """Prints a line a minute, where a bar would fill the log."""

    def __init__(self, label: str, meter: Meter):
        self.label, self.meter = label, meter
        self._said = time.monotonic()

    def __call__(self, position: float, lines: int) -> None:
        self.meter.advance(position, lines)
        if time.monotonic() - self._said > LOG_SECONDS:
            self._said = time.monotonic()
            console.info(f"{self.label}: {position / self.meter.total:.1%}, {self.meter}")


def print_counts(title: str, counts: Mapping[str, int], lines: int) -> None:
    """Prints what became of the lines, with the share of each count in all of them."""
    screen, table = Console(), Table()
    for column in ("", "lines", "share"):
        table.add_column(column, justify="left" if not column else "right")
    for name, count in {"all": lines, **counts}.items():
        table.add_row(name.replace("_", " "), f"{count:,}", f"{count / lines:.2%}" if lines else "")
    screen.print(f"{title}:", soft_wrap=True, highlight=False)
    screen.print(table)
