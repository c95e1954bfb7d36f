"""Runs scripts in forks of a process that has imported torch and NeMo once, which takes seconds, for a worker's tests.

A fork has its own arguments, folder, output and memory, as a process of its own has. Where other processes are started,
or what an import prints is tested, a test starts a process instead.
"""

import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.interruption.harness import context


def run_script(script: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script as `python script arguments` does."""
    with tempfile.TemporaryDirectory() as elsewhere:
        printed = [Path(elsewhere) / name for name in ("stdout", "stderr")]
        child = context.Process(target=_child, args=(script, arguments, cwd, printed))
        child.start()
        child.join()
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in printed]
    return subprocess.CompletedProcess([str(script), *arguments], child.exitcode, *texts)


def _child(script: Path, arguments: tuple[str, ...], cwd: Path, printed: list[Path]) -> None:
    os.chdir(cwd)
    for number, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv, sys.path[0] = [str(script), *arguments], str(script.parent)
    runpy.run_path(str(script), run_name="__main__")
