"""A mistake on the command line and a crash have exit codes of their own, under Hydra too."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from pathlib import Path
from hydra.errors import InstantiationException
from nemo_distill.commands.command_line import hydra_main

@hydra_main("job", Path("conf").absolute())
def main(cfg):
    if cfg.crash == "exit":
        sys.exit(1)
    if cfg.crash == "hydra":
        raise InstantiationException("of a class that a job names")
    if cfg.crash:
        raise ValueError("in the job")
    print(f"crash={cfg.crash}")

main()
"""


@pytest.fixture
def run(tmp_path):
    """Runs a script with arguments, and returns its exit code and all that it printed."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "job.yaml").write_text("crash: null\nhydra: {run: {dir: .}, output_subdir: null}\n")
    (tmp_path / "job.py").write_text(SCRIPT)

    def run_script(*arguments):
        ended = subprocess.run([sys.executable, "job.py", *arguments], cwd=tmp_path, capture_output=True, text=True)
        return ended.returncode, ended.stdout + ended.stderr

    return run_script


@pytest.mark.parametrize(
    ("arguments", "code", "printed"),
    [
        (["crash=null"], 0, "crash=None"),
        (["crsh=1"], 2, "Could not override 'crsh'"),
        (["crash=[1"], 2, "no viable alternative"),
        (["--config-name=other"], 2, "Cannot find primary config 'other'"),
        (["--config-dir=nowhere"], 2, "nowhere' not found"),
        (["--nothing"], 2, "unrecognized arguments"),
        (["crash=true"], 1, "ValueError: in the job"),
        (["crash=hydra"], 1, "of a class that a job names"),
        (["crash=exit"], 1, ""),
    ],
)
def test_a_mistake_in_the_arguments_ends_with_2_and_a_crash_with_1(run, arguments, code, printed):
    ended, said = run(*arguments)
    assert ended == code and printed in said, said
