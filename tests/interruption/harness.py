"""Runs the project's scripts in children of a process that has imported torch and NeMo once, and kills them.

A child is a fork, so that an attempt costs what the job costs. It runs a script of `examples/` as its user does, and is
killed by SIGKILL right before its n-th change of a folder: before a file is opened for writing, takes another name or
is deleted, before a folder is made or removed. Those are the moments that leave something half done, and a run has the
same ones every time. Or it is killed in the middle of a file, by a limit on the size of files.
"""

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import SCRIPTS
from tests.forked import context, run_as_main

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
TORN_BYTES = 64
NOT_COUNTED = ("events.out.tfevents",)  # TensorBoard writes from a thread of its own


@dataclass(frozen=True)
class Script:
    """A script of `examples/`, and where it works.

    Args:
        name: the script.
        arguments: as the user types them.
        prepare: called in the child before the script runs.
    """

    name: str
    arguments: Sequence[str]
    prepare: Callable[[], None] = print


@dataclass(frozen=True)
class Attempt:
    """How an attempt ended: its exit code, below 0 where it was killed, what it printed, and its changes of the folder.

    A change is told by what happened and to what, such as `open pseudo.src`; of a killed attempt none is.
    """

    code: int
    printed: str
    changes: Sequence[str]

    @property
    def was_killed(self) -> bool:
        return self.code in (-signal.SIGKILL, -signal.SIGXFSZ)


@dataclass(frozen=True)
class Kill:
    """When a child is killed: before its `change`-th change, from 1, or in the middle of the first write after it."""

    change: int
    torn: bool = False

    def strike(self) -> None:
        if not self.torn:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (TORN_BYTES, TORN_BYTES))


def attempt(script: Script, folder: Path, kill: Kill | None = None) -> Attempt:
    """Runs a script in a child.

    Args:
        script: what to run.
        folder: whose changes are counted.
        kill: when to kill the child, if at all.
    """
    with tempfile.TemporaryDirectory() as elsewhere:
        log, changes = (Path(elsewhere) / name for name in ("log", "changes"))
        changes.touch()
        child = context.Process(target=_child, args=(script, folder, log, changes, kill))
        child.start()
        child.join()
        return Attempt(child.exitcode, log.read_text(errors="replace"), changes.read_text().splitlines())


def _child(script: Script, folder: Path, log: Path, changes: Path, kill: Kill | None) -> None:
    with log.open("w") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)
    script.prepare()
    seen = _watch(str(folder), kill)
    try:
        run_as_main(SCRIPTS / script.name, script.arguments)
    finally:
        changes.write_text("".join(f"{change}\n" for change in list(seen)))


def _watch(folder: str, kill: Kill | None) -> list[str]:
    """Lists from now on the changes of a folder, and strikes when it is time."""
    seen: list[str] = []

    def on_event(event: str, arguments: tuple[Any, ...]) -> None:
        if not _is_change(event, arguments) or not any(_is_inside(argument, folder) for argument in arguments[:2]):
            return
        seen.append(f"{event} {os.path.basename(os.fsdecode(arguments[0]))}")
        if kill and len(seen) == kill.change:
            kill.strike()

    sys.addaudithook(on_event)
    return seen


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in CHANGES


def _is_inside(path: Any, folder: str) -> bool:
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    name = os.path.abspath(os.fsdecode(path))
    return name.startswith(folder) and not any(part in name for part in NOT_COUNTED)
