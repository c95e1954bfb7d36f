"""Controls what a job prints: its own messages and tables, and only useful warnings of the libraries.

Call `set_up_console` before NeMo is imported.
"""

import logging
import os
import re
import signal
import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Parts of Python warnings that are not useful for the user.
IRRELEVANT = (
    "pynvml",
    "torchaudio",
    "torch.distributed.reduce_op",
    "bitsandbytes",
    "does not have many workers",
    "smaller than the logging interval",
    "treespec, LeafSpec",
    "Checkpoint directory .* exists and is not empty",
    "was configured but will not be used|GPU available but not used",
    "resume from an iterator|mid-epoch checkpoint",
)
# Parts of NeMo's warnings that are not useful for the user.
IRRELEVANT_NEMO = (
    "Apex was not found",
    "There were no checkpoints found",
    "Exp_manager is logging to",
    "told to monitor a validation value",
)
LIBRARY_LOGGERS = """
lightning.pytorch.utilities.rank_zero lightning.fabric.utilities.seed lightning.fabric.utilities.rank_zero
lightning.pytorch lightning.fabric megatron torch.distributed
""".split()
FILE_WIDTH = 240  # columns of a table, if the output is not a terminal
AROUND_CELL = 3  # spaces and a line
TOGETHER = re.compile(r" (?=[%=<±])|(?<=[=<±]) ")  # spaces in `5 %` or `p = 0.05`, where no line ends
QUOTED = re.compile(r"(?<!\w)'[^']+'(?!\w)")  # a command or a path; no line ends in it, so that it can be copied
UNBROKEN = "\N{NO-BREAK SPACE}"
console = logging.getLogger("nemo_distill")


def set_up_console(stream: TextIO | None = None) -> None:
    """Makes `console.info(...)` print plain lines, and silences the messages of libraries.

    Args:
        stream: where to print; None for standard output.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as Python writes errors; else a dash would end a job
    if not console.handlers:
        handler = logging.StreamHandler(stream or sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        console.addHandler(handler)
        console.setLevel(logging.INFO)
        console.propagate = False
        logging.getLogger("nemo_logger").addFilter(_is_relevant)
    logging.getLogger().handlers.clear()  # Hydra's handlers would repeat the INFO lines of all libraries
    for name in LIBRARY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # warns about GPUs if an older Lightning imports it
    for category in (DeprecationWarning, FutureWarning, SyntaxWarning):
        warnings.filterwarnings("ignore", category=category)
    for text in IRRELEVANT:
        warnings.filterwarnings("ignore", message=f"(?s).*({text})")
    logging.raiseExceptions = False  # otherwise logging prints stack traces if it cannot write, as on a full disk
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # NeMo's bars for each file; Lightning and we show progress otherwise


def _is_relevant(record: logging.LogRecord) -> bool:
    """Filters NeMo's log. A filter is needed because NeMo resets the level of its logger when it is imported."""
    message = record.getMessage()
    return record.levelno >= logging.WARNING and not any(text in message for text in IRRELEVANT_NEMO)


class Interrupted(SystemExit):
    """Ends a job after Ctrl-C or SIGTERM. The argument is the message to print."""


@contextmanager
def sigterm_as_exception() -> Iterator[None]:
    """Within this context, SIGTERM raises `SystemExit`, so that child processes can be ended first."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table without a final newline. Cells are text, and the first column contains names."""
    ruler = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ruler, *rows))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Prints a table of plain text. All columns except the first are right-aligned.

    If a terminal is too narrow, there are several tables, each with the first column and some of the others.
    """
    screen = Console()
    screen = screen if screen.is_terminal else Console(width=FILE_WIDTH)
    for shown in _parts([max(map(cell_len, column)) for column in zip(columns, *rows)], screen.width):
        table = Table(title=title and Text(title))  # of a plain string, rich reads [tags] and draws what it names :x:
        for index in shown:
            table.add_column(Text(columns[index]), justify="right" if index else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(row[index]) for index in shown))
        screen.print(table)


def _parts(widths: Sequence[int], screen: int) -> list[list[int]]:
    """Returns the columns of each table, so that each table fits, if it can: always the first, and some others."""
    parts = [[0]]
    for index in range(1, len(widths)):
        drawn = sum(widths[column] + AROUND_CELL for column in (*parts[-1], index)) + 1
        if drawn > screen and len(parts[-1]) > 1:
            parts.append([0])
        parts[-1].append(index)
    return parts


def print_list(title: str, sentences: Iterable[str]) -> None:
    """Prints a heading and a list of sentences, wrapped on a terminal; nothing if there are none."""
    screen = Console()
    width = screen.width if screen.is_terminal else sys.maxsize
    wrapper = textwrap.TextWrapper(
        width, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    joined = (QUOTED.sub(lambda quoted: quoted[0].replace(" ", UNBROKEN), " ".join(one.split())) for one in sentences)
    together = (TOGETHER.sub(UNBROKEN, sentence) for sentence in joined)
    wrapped = [wrapper.fill(sentence).replace(UNBROKEN, " ") for sentence in together]
    if wrapped:
        print(title, *wrapped, sep="\n", end="\n\n")
