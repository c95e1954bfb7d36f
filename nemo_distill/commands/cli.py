"""The command `nemo-distill`: the name of a job, followed by Hydra arguments for its config."""

import difflib
import os
import re
import sys

from nemo_distill import __version__
from nemo_distill.commands.jobs import JOBS, start_job

PROGRAM = "nemo-distill"
COMPLETION = ("-sc", "--shell-completion")
TYPED = re.compile(r"\s*\S+\s+(?P<job>\S+)\s+(?P<arguments>.*)")
HELP = """\
{program} JOB key=value ...

{jobs}

{program} JOB --help                           shows a job's configuration
eval "$({program} -sc install=bash)"           lets the tab key complete it in this shell
"""


def main() -> None:
    """Runs the command line. An error in it ends the process with exit code 2."""
    if not sys.argv[1:]:
        print(_help(), file=sys.stderr)
        sys.exit(2)
    first, *others = sys.argv[1:]
    if first in ("-h", "--help"):
        print(_help())
    elif first == "--version":
        print(f"{PROGRAM} {__version__}")
    elif first in COMPLETION:
        _complete(sys.argv[1:])
    elif first in JOBS:
        start_job(first, [PROGRAM, *others])
    else:
        (closest,) = difflib.get_close_matches(first, JOBS, n=1, cutoff=0.0)
        print(f"There is no job '{first}'; did you mean '{closest}'?", file=sys.stderr)
        sys.exit(2)


def _help() -> str:
    width = max(map(len, JOBS))
    jobs = "\n".join(f"  {name:{width}}  {job.summary}" for name, job in JOBS.items())
    return HELP.format(program=PROGRAM, jobs=jobs).rstrip()


def _complete(arguments: list[str]) -> None:
    """Answers a completion query of the shell, or prints the code that enables completion, as Hydra does.

    The shell passes the typed line in COMP_LINE. Hydra gets it without the name of the job.
    """
    job = next(iter(JOBS))  # to install completion, any job will do
    if any(argument.startswith("query=") for argument in arguments):
        typed = TYPED.fullmatch(os.environ.get("COMP_LINE", ""))
        if not typed:
            print(*JOBS)
        if not typed or typed["job"] not in JOBS:
            return
        job, os.environ["COMP_LINE"] = typed["job"], f"{PROGRAM} {typed['arguments']}"
    start_job(job, [PROGRAM, *arguments])
