"""Runs scripts in forks of a process that has imported torch and NeMo once, which takes seconds, for a worker's tests.

A fork has its own arguments, folder, output and memory, as a process of its own has. Where other processes are started,
or what an import prints is tested, a test starts a process instead.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.preloaded"])


def run_script(
    script: Path, *arguments: str, cwd: Path, devices: int = 1, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a script as `python script arguments` does, or as torchrun does, in a process for each of several devices.

    Args:
        environment: more environment variables.

    Returns:
        Of several processes, the exit code that is furthest from 0, and what they printed, one after the other.
    """
    ranks = [environment | rank for rank in _ranks(devices)]
    with tempfile.TemporaryDirectory() as elsewhere:
        printed = [[Path(elsewhere) / f"{name}{rank}" for name in ("stdout", "stderr")] for rank in range(devices)]
        arguments_of = [(script, arguments, cwd, *one) for one in zip(printed, ranks, strict=True)]
        children = [context.Process(target=_child, args=own) for own in arguments_of]
        for child in children:
            child.start()
        for child in children:
            child.join()
        stdout, stderr = ("".join(map(_read, paths)) for paths in zip(*printed, strict=True))
    worst = max((child.exitcode for child in children), key=abs)
    return subprocess.CompletedProcess([str(script), *arguments], worst, stdout, stderr)


def _ranks(devices: int) -> list[dict[str, str]]:
    """For each process the variables by which Lightning knows that it is one of several; none for one alone."""
    if devices == 1:
        return [{}]
    shared = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    return [{"LOCAL_RANK": str(rank), **shared} for rank in range(devices)]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _child(script: Path, arguments: tuple[str, ...], cwd: Path, printed: list[Path], rank: dict[str, str]) -> None:
    os.chdir(cwd)
    os.environ.update(rank)
    for number, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    run_as_main(script, arguments)


def run_as_main(script: Path, arguments: Sequence[str]) -> None:
    """Runs a script in this process as `python script arguments` does."""
    sys.argv, sys.path[0] = [str(script), *arguments], str(script.parent)
    runpy.run_path(str(script), run_name="__main__")
