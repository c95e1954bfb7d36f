"""Runs the scripts as a user would, each in a process of its own, without the seconds that its imports take.

Started once, it imports what all scripts import, but not NeMo; then it reads jobs from standard input, a JSON object a
line, and forks a process for each. That one runs the script as `python script arguments` does, with its output in files.
"""

import json
import os
import runpy
import signal
import sys
import time
import traceback
from importlib.abc import MetaPathFinder

import torch  # noqa: F401

import nemo_distill.commands.cache_teacher
import nemo_distill.commands.evaluate
import nemo_distill.commands.generate_pseudo_labels
import nemo_distill.commands.report
import nemo_distill.commands.training  # noqa: F401

MOST_SECONDS = 60
NEMO_IMPORTED = 99


class NoNeMo(MetaPathFinder):
    """Ends a process that is about to import NeMo, which a mistake must be told before."""

    def find_spec(self, name, path, target=None):
        if name == "nemo":
            print("NeMo is imported", file=sys.stderr, flush=True)
            os._exit(NEMO_IMPORTED)


def run(script: str, arguments: list[str], cwd: str, output: str, stdin: str) -> None:
    """Becomes the script's process and ends as it does."""
    signal.alarm(MOST_SECONDS)
    sys.meta_path.insert(0, NoNeMo())
    os.chdir(cwd)
    for number, name in enumerate((stdin, f"{output}/stdout", f"{output}/stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT if number else os.O_RDONLY), number)
    sys.argv, sys.path[0] = [script, *arguments], os.path.dirname(script)
    code = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        started = time.monotonic()
        if not (child := os.fork()):
            run(**job)
        _, status = os.waitpid(child, 0)
        print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - started]), flush=True)


if __name__ == "__main__":
    main()
