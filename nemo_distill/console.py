"""What a job says on the screen: its own few lines, and of its libraries only what a user can act on.

Call `set_up_console` before NeMo is imported.
"""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# Of Python warnings that concern neither the job nor its data, the text that they contain.
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
# Of NeMo's own warnings, likewise.
IRRELEVANT_NEMO = (
    "Apex was not found",
    "There were no checkpoints found",
    "told to monitor a validation value",
)
LIBRARY_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.fabric.utilities.rank_zero",
    "lightning.pytorch",
    "lightning.fabric",
    "megatron",
    "torch.distributed",
)
console = logging.getLogger("nemo_distill")


def set_up_console(stream: TextIO | None = None) -> None:
    """Lets `console.info(...)` print plain lines and silences what libraries say at import and start.

    Args:
        stream: where to; None for standard output.
    """
    if not console.handlers:
        handler = logging.StreamHandler(stream or sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        console.addHandler(handler)
        console.setLevel(logging.INFO)
        console.propagate = False
        logging.getLogger("nemo_logger").addFilter(_is_relevant)
    logging.getLogger().handlers.clear()  # Hydra's, which would repeat every library's INFO lines
    for name in LIBRARY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # of GPUs, where an older Lightning imports it
    for category in (DeprecationWarning, FutureWarning, SyntaxWarning):
        warnings.filterwarnings("ignore", category=category)
    for text in IRRELEVANT:
        warnings.filterwarnings("ignore", message=f"(?s).*({text})")
    logging.raiseExceptions = False  # a log that cannot be written, as on a full disk, would show stack traces
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _is_relevant(record: logging.LogRecord) -> bool:
    """NeMo resets its logger's level when it is imported, but keeps its filters."""
    message = record.getMessage()
    return record.levelno >= logging.WARNING and not any(text in message for text in IRRELEVANT_NEMO)


class Interrupted(SystemExit):
    """The end of a job that Ctrl-C or SIGTERM has ended; its argument is what is printed."""


@contextmanager
def sigterm_as_exception() -> Iterator[None]:
    """Lets SIGTERM end this process by a `SystemExit`, so that what it has started can be ended first."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
