"""Whatever a user types wrongly ends in seconds with a sentence, an exit code, no stack trace, and nothing written."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import REPOSITORY, SCRIPTS
from tests.examples.bad_files import LINES, write_files
from tests.examples.bad_input_cases import CASES, DISTIL, SOURCE

MOST_SECONDS = 30  # of a busy machine; most take half a second


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    stdout: str
    stderr: str
    seconds: float


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The working folder of all commands."""
    path = tmp_path_factory.mktemp("bad") / "work"
    path.mkdir()
    write_files(path)
    return path


@pytest.fixture(scope="module")
def command(folder, tmp_path_factory):
    """Runs a script with arguments as the shell would, and returns how it ended."""
    output = tmp_path_factory.mktemp("screen")
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.examples.prefork"], cwd=REPOSITORY, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout.readline() == "ready\n"

    def run(script: str, arguments: str) -> Ended:
        for file in output.iterdir():
            file.unlink()
        job = {"script": str(SCRIPTS / script), "arguments": shlex.split(arguments), "cwd": str(folder)}
        parent.stdin.write(json.dumps(job | {"output": str(output), "stdin": "/dev/null"}) + "\n")
        parent.stdin.flush()
        code, seconds = json.loads(parent.stdout.readline())
        printed = [(output / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
        return Ended(code, *printed, seconds)

    yield run
    parent.stdin.close()
    assert parent.wait() == 0


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    """Everything in a folder, with sizes and times of change."""
    entries = {path: path.stat() for path in folder.rglob("*")}
    return {path: (status.st_size, status.st_mtime_ns) for path, status in entries.items()}


def said(ended: Ended) -> str:
    """Its errors, without the line ends that a width of the screen may put anywhere."""
    return " ".join(ended.stderr.split())


@pytest.mark.parametrize(
    ("script", "arguments", "code", "sentence"),
    CASES,
    ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)],
)
def test_bad_input_ends_with_a_sentence_and_leaves_nothing(command, folder, script, arguments, code, sentence):
    before = snapshot(folder)
    ended = command(script, arguments)
    assert sentence in said(ended), ended
    assert ended.code == code, ended
    assert "Traceback" not in ended.stderr and "Traceback" not in ended.stdout
    assert snapshot(folder) == before
    assert ended.seconds < MOST_SECONDS


def test_a_process_of_its_own_says_the_same(command, folder):
    script, arguments, code, sentence = CASES[-1]
    alone = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *shlex.split(arguments)], cwd=folder, capture_output=True, text=True
    )
    assert (alone.returncode, alone.stderr) == (code, command(script, arguments).stderr)
    assert sentence in alone.stderr


def test_a_line_of_100_000_characters_is_read_in_seconds_by_checks_and_by_a_mix(command, folder):
    arguments = "output=long_mix corpora.real.source=long.de corpora.real.target=train.en corpora.real.share=1"
    ended = command("mix_corpora.py", f"{arguments} ~corpora.pseudo")
    assert ended.code == 0 and ended.seconds < MOST_SECONDS, ended
    record = json.loads((folder / "long_mix.json").read_text())
    assert record["corpora"]["real"]["left_out"] == {"source_over_long": 1} and record["lines"] == LINES - 1
    checked = command("enc_dec_nmt_distill.py", f"{DISTIL} {SOURCE}=long.de model.search=none")
    assert checked.stderr.count("  - ") == 1 and "model.search=none" in checked.stderr, checked
