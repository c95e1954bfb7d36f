"""Jobs that are killed at random points, and go on to the results of an uninterrupted run.

KILLS=100 pytest tests/interruption kills each job a hundred times, rather than a few; KILL_SEED chooses the points.
"""

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.interruption.harness import Attempt, Kill, attempt
from tests.interruption.jobs import SCRIPTS_OF
from tests.interruption.results import CHECKS

KILLS = {"labelling": 6, "caching": 4, "exporting": 4, "evaluating": 3, "training": 4}  # 21 a run
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
    count = int(os.environ.get("KILLS", KILLS[kind]))
    generator = random.Random(f"{SEED} {kind}")
    points = sorted(generator.sample(range(1, changes + 1), min(count, changes)))
    return [Kill(point, torn=bool(number % 2)) for number, point in enumerate(points)]


def killed_and_resumed(kind: str, kill: Kill, corpus: Path, whole_run: Path, folder: Path) -> None:
    """Kills a job twice and lets it end, and compares with an uninterrupted run."""
    script = SCRIPTS_OF[kind](corpus, folder)
    check_whole, result = CHECKS[kind]
    said = f"{kind}, {kill}, KILL_SEED={SEED}"
    attempts = []
    for again in (kill, Kill(kill.change // 2 + 1), None):
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
