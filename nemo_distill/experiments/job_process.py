"""The processes of jobs made of jobs: each is a command that could be typed, with its memory and devices to itself."""

import subprocess
import sys
from collections.abc import Sequence

from nemo_distill.console import Interrupted, sigterm_as_exception


def job_command(name: str) -> tuple[str, ...]:
    """Returns what this Python is started with to do a job of `nemo-distill`; the job's own arguments come after it.

    The working folder is no place to import from (`-P`): it may hold anything.
    """
    return ("-P", "-m", "nemo_distill", name)


def exit_code(arguments: Sequence[str]) -> int:
    """Runs this Python with arguments; whatever ends this process ends that one first."""
    process = subprocess.Popen([sys.executable, *arguments])
    with sigterm_as_exception():
        try:
            return process.wait()
        except (KeyboardInterrupt, Interrupted):  # which the other has got as well
            process.wait()
            raise
        except BaseException:
            process.terminate()
            process.wait()
            raise
