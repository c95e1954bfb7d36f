"""Jobs that are killed at random points, and go on to the results of an uninterrupted run.

KILLS=100 pytest tests/interruption kills a hundred runs of each job, rather than one; KILL_SEED chooses the points.
"""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interruption.harness import Attempt, Kill, attempt
from tests.interruption.jobs import SCRIPTS_OF
from tests.interruption.results import CHECKS
from tests.pseudo_labels.fakes import contents

KILLS = int(os.environ.get("KILLS", 1))  # runs of each job that are killed
SEED = int(os.environ.get("KILL_SEED", 0))


@pytest.fixture(scope="module")
def whole(corpus, teacher_path, tmp_path_factory):
    """Uninterrupted runs: of a kind of job, its attempt and the folder that it has made."""
    made: dict[str, tuple[Attempt, Path]] = {}

    def run(kind: str) -> tuple[Attempt, Path]:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind) / "run"
            made[kind] = attempt(SCRIPTS_OF[kind](corpus, folder), folder), folder
            assert made[kind][0].code == 0, made[kind][0].printed
        return made[kind]

    return run


def kill_points(kind: str, changes: int) -> list[Kill]:
    """As many as are wanted, spread over the run, every other one in the middle of a file."""
    generator = random.Random(f"{SEED} {kind}")
    points = sorted(generator.sample(range(1, changes + 1), min(KILLS, changes)))
    return [Kill(point, torn=bool(number % 2)) for number, point in enumerate(points)]


def killed_and_resumed(kind: str, kill: Kill, corpus: Path, whole_run: Path, folder: Path) -> None:
    """Kills a job twice, once in the middle of a file, and lets it end, and compares with an uninterrupted run."""
    script = SCRIPTS_OF[kind](corpus, folder)
    check_whole, result = CHECKS[kind]
    said = f"{kind}, {kill}, KILL_SEED={SEED}"
    attempts = []
    for again in (kill, Kill(kill.change // 2 + 1, torn=not kill.torn), None):
        attempts.append(attempt(script, folder, again))
        assert attempts[-1].was_killed or attempts[-1].code == 0, f"{said}: {attempts[-1].printed}"
        check_whole(folder, whole_run)
    assert attempts[-1].code == 0, said
    assert result(folder) == result(whole_run), said


@pytest.mark.parametrize("kind", SCRIPTS_OF)
def test_a_job_that_is_killed_anywhere_ends_with_the_result_of_an_uninterrupted_one(kind, whole, corpus, tmp_path):
    uninterrupted, whole_run = whole(kind)
    for kill in kill_points(kind, len(uninterrupted.changes)):
        folder = tmp_path / "run"
        killed_and_resumed(kind, kill, corpus, whole_run, folder)
        shutil.rmtree(folder)


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a disk of its own needs the right to mount one: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def size_of(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def fill(disk: Path, room: int) -> Path:
    """Leaves so many bytes free on a disk, and returns the file that has the others."""
    status, path = os.statvfs(disk), disk / "filler"
    path.write_bytes(bytes(status.f_bavail * status.f_bsize - room))
    return path


def refused(kind: str, corpus: Path, folder: Path, reason: str) -> None:
    """Runs a job that ends with a sentence about the disk."""
    ended = attempt(SCRIPTS_OF[kind](corpus, folder), folder)
    assert ended.code == 1, ended.printed
    said = ended.printed.strip().splitlines()[-1]
    again = "starts over" if kind == "exporting" else "goes on"
    assert str(folder) in said and reason in said
    assert said.endswith(f"the same command {again} once that is mended.")
    assert "Traceback" not in ended.printed and "Error" not in ended.printed, ended.printed


@pytest.mark.parametrize("kind", SCRIPTS_OF)
def test_a_disk_that_is_full_or_read_only_is_told_and_leaves_what_was_there(kind, whole, corpus, disk):
    _, whole_run = whole(kind)
    check_whole, result = CHECKS[kind]
    folder = disk / "run"
    if kind == "exporting":
        shutil.copytree(whole_run, folder)
    filler = fill(disk, room=size_of(whole_run) // 2)
    refused(kind, corpus, folder, "No space left on device")
    check_whole(folder, whole_run)
    filler.unlink()
    there = contents(disk)
    assert there
    for state in ("ro", "rw"):
        subprocess.run(["mount", "-o", f"remount,{state}", str(disk)], check=True)
        if state == "ro":
            refused(kind, corpus, folder, "Read-only file system")
    assert contents(disk) == there
    resumed = attempt(SCRIPTS_OF[kind](corpus, folder), folder)
    assert resumed.code == 0, resumed.printed
    assert result(folder) == result(whole_run)
