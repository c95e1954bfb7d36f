"""How a job tells what its user can mend: a configuration before the job starts, bad input or a full disk later."""

import errno
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError, UnsupportedInterpolationType

from nemo_distill.config.errors import ConfigurationError, DataError, NotFiniteError
from nemo_distill.console import Interrupted, console, set_up_console
from nemo_distill.nemo_files.host_fixes import replaced
from nemo_distill.storage.ledger import Work

Job = TypeVar("Job")
# Errors of a full or limited (ulimit -f), read-only, inaccessible or broken disk. Other system errors are bugs.
DISK_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG,
)  # fmt: skip


def checked(cfg: DictConfig, read_job: Callable[[DictConfig], Job]) -> Job:
    """Returns what `read_job` makes of a configuration; prints problems and ends with exit code 2 if there are any."""
    try:
        job = read_job(cfg)
    except ConfigurationError as error:
        problems = str(error)
    except (InterpolationResolutionError, UnsupportedInterpolationType) as error:
        problems = f"{error.full_key}: {str(error).splitlines()[0]}."
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        # A check writes only temporary files, some of which have no name in the error.
        problems = f"'{error.filename or tempfile.gettempdir()}': {error.strerror}."
    else:
        set_up_console()
        return job
    print(problems, file=sys.stderr)
    sys.exit(2)


def check_output(work: Work, texts: Sequence[Path], overwrite: bool, kind: str, place: str) -> None:
    """Checks that no other text is in the place of a job's output, unless it may be replaced.

    Args:
        texts: the files that the job writes or deletes.
        kind: what they are together.
        place: what to give another one of.

    Raises:
        ConfigurationError: if there is such text.
    """
    remedy = f"give another {place}, or replace it with overwrite=true"
    try:
        record = work.done(overwrite)
    except DataError as error:
        raise ConfigurationError([f"output: {error}; {remedy}."]) from error
    there = [path for path in texts if path.exists()]
    if there and not record and not overwrite:
        raise ConfigurationError(
            [f"output: '{path}' is there, and no record of a {kind}; {remedy}." for path in there]
        )


def warn(warnings: Sequence[str]) -> None:
    """Prints warnings about settings that are allowed."""
    for warning in warnings:
        console.warning(f"Warning: {warning}")


@contextmanager
def plain_errors(goes_on: bool = False) -> Iterator[None]:
    """Ends the program with a message instead of a stack trace after bad input, a disk error or Ctrl-C.

    Args:
        goes_on: True if the same command continues the work; False if it starts over.
    """
    try:
        with replaced(threading, "excepthook", _show_thread):
            yield
    except (ConfigurationError, DataError, NotFiniteError) as error:
        raise SystemExit(f"\n{error}") from error
    except BrokenPipeError as error:  # the reader of the output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from error
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = f"'{error.filename}': " if error.filename else ""
        remedy = f"the same command {'goes on' if goes_on else 'starts over'} once that is mended."
        raise SystemExit(f"\n{where}{error.strerror}. What was finished before is intact; {remedy}") from error
    except KeyboardInterrupt as interruption:
        again = "goes on from there" if goes_on else "starts over"
        raise Interrupted(f"\nInterrupted; the same command {again}.") from interruption


def _show_thread(ended: threading.ExceptHookArgs) -> None:
    """Shows errors in threads except disk errors. Threads such as TensorBoard's writer pass those on."""
    if not (isinstance(ended.exc_value, OSError) and ended.exc_value.errno in DISK_ERRORS):
        threading.__excepthook__(ended)
