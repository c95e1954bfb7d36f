"""Threads where a container has fewer cores than its machine, which LOKY_MAX_CPU_COUNT stands for here."""

import os
import subprocess
import sys

import pytest

SHOW = """
import os
from pathlib import Path
from nemo_distill.commands.jobs import hydra_main

@hydra_main("shown", Path(__file__).parent)
def main(cfg):
    print(os.environ.get("OMP_NUM_THREADS"))

main()
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
@pytest.mark.parametrize(
    ("environment", "threads"),
    [({}, "None"), ({"LOKY_MAX_CPU_COUNT": "1"}, "1"), ({"LOKY_MAX_CPU_COUNT": "1", "OMP_NUM_THREADS": "3"}, "3")],
)
def test_a_job_has_as_many_threads_as_its_container_has_cores(tmp_path, environment, threads):
    (tmp_path / "shown.py").write_text(SHOW)
    (tmp_path / "shown.yaml").write_text("hydra: {run: {dir: .}, output_subdir: null}\n")
    others = {
        name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    }
    ended = subprocess.run(
        [sys.executable, "shown.py"], cwd=tmp_path, capture_output=True, text=True, env=others | environment
    )
    assert ended.stdout == f"{threads}\n", ended.stderr
