"""Runs jobs in their own processes, each with its own memory and devices."""

import subprocess
import sys
from collections.abc import Sequence

from nemo_distill.console import Interrupted, sigterm_as_exception


def job_command(name: str) -> tuple[str, ...]:
    """Returns the Python arguments for a job of `nemo-distill`, without the job's own arguments.

    `-P` excludes the working folder from imports, because it may contain any files.
    """
    return ("-P", "-m", "nemo_distill", name)


def exit_code(arguments: Sequence[str]) -> int:
    """Runs Python with these arguments. If this process is ended, it ends the other one first."""
    process = subprocess.Popen([sys.executable, *arguments])
    with sigterm_as_exception():
        try:
            return process.wait()
        except (KeyboardInterrupt, Interrupted):  # the other process receives the signal too
            process.wait()
            raise
        except BaseException:
            process.terminate()
            process.wait()
            raise
