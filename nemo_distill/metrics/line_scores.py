"""Scores that a command of the user's computes: a file of lines in, a number for each line out.

Metrics such as COMET and MetricX need packages that conflict with NeMo, so they run in an environment of their own.
"""

import os
import shlex
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from pydantic import Field

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import section
from nemo_distill.metrics.scores import Score
from nemo_distill.storage.files import whole_file
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.lines import TextFiles, finite_number

PLACES = ("{hypotheses}", "{scores}")
SHOWN = 2000  # characters of what a command that failed has printed


@section
class ScorerSettings:
    """A metric of your own, such as MetricX."""

    command: str = Field(kw_only=True)
    """A command that reads the file `{hypotheses}`, of lines `source<TAB>hypothesis<TAB>reference`, and writes
    `{scores}`, one number a line. It runs without a shell. A system's score is the mean."""
    lower_is_better: bool = False
    """The best translation has the lowest score, as with MetricX."""

    def problems(self) -> list[str]:
        """Returns a sentence for each reason why the command cannot run."""
        return command_problems(self.command)


def command_fingerprints(command: str) -> list[dict[str, str]]:
    """Returns the fingerprints of the files and folders that a command names, such as a script.

    A folder that contains the working directory, such as `.`, is left out: results that are written there change it.
    """
    words = shlex.split(command)
    names = dict.fromkeys(name for word in words for name in (word, word.partition("=")[2]))  # or --model=name
    paths = [Path(name) for name in names if os.path.exists(name)]  # False also for names that no file can have
    return [fingerprint(path) for path in paths if not Path.cwd().is_relative_to(path.resolve())]


def command_problems(command: str) -> list[str]:
    """Returns a sentence that begins with `command` for each reason why a command cannot run."""
    missing = [place for place in PLACES if place not in command]
    if missing:
        return [f"command={command}: must contain {' and '.join(missing)}, which stand for the names of the files."]
    try:
        words = shlex.split(command)
    except ValueError as error:
        return [f"command={command}: cannot be read as a command: {error}."]
    if shutil.which(words[0]) is None:
        return [f"command={command}: there is no program '{words[0]}'."]
    return []


def score_lines(where: str, command: str, lines: Sequence[bytes], output: Path) -> None:
    """Runs a command, and writes its scores.

    Args:
        where: the key of the command, for messages.
        command: it has both `PLACES`.
        lines: the lines of `{hypotheses}`, with their line ends.
        output: the file of the scores, which appears only when it is complete.

    Raises:
        DataError: if the command fails, or does not write one number per line.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, scores = (Path(folder) / name for name in ("hypotheses.tsv", "scores.txt"))
        with given.open("wb") as stream:
            stream.writelines(lines)
        words = shlex.split(command)
        for place, path in zip(PLACES, (given, scores)):
            words = [word.replace(place, str(path)) for word in words]
        run = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if run.returncode or not scores.is_file():
            ended = f"ended with exit code {run.returncode}" if run.returncode else "wrote no {scores}"
            raise DataError(f"{where} {ended}:\n{(run.stdout + run.stderr)[-SHOWN:]}")
        found = sum(1 for _ in read_scores([scores]))
        if found != len(lines):
            raise DataError(f"{where} wrote {found} scores for {len(lines)} hypotheses.")
        with whole_file(output) as stream:
            stream.write(scores.read_bytes())


def read_scores(paths: Sequence[Path], lower_is_better: bool = False) -> Iterator[float]:
    """Yields the numbers in files, one a line; the better, the higher.

    Raises:
        DataError: if a line is not a number.
    """
    for path in paths:
        for number, line in enumerate(TextFiles([path]), start=1):
            score = finite_number(line)
            if score is None:
                said = line.decode("utf-8", "replace")[:60]
                raise DataError(f"'{path}', line {number}: '{said}' is not a score; it must be a number.")
            yield -score if lower_is_better else score


def scores_by_command(
    name: str,
    scorer: ScorerSettings,
    sources: Sequence[str],
    references: Sequence[str],
    translations: Mapping[str, Sequence[str]],
) -> dict[str, Score]:
    """Runs a metric's command once, and returns each system's mean, with a signature that says how it was made.

    Args:
        name: the name of the metric.
        scorer: its command.
        sources: one per sentence.
        references: one per sentence.
        translations: the translations of each system, one per sentence.

    Raises:
        DataError: see `score_lines`.
    """
    rows = [row for lines in translations.values() for row in zip(sources, lines, references, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "scores.txt"
        encoded = ["\t".join(row).encode() + b"\n" for row in rows]
        score_lines(f"scorers.{name}.command", scorer.command, encoded, output)
        numbers = read_scores([output])
        means = {system: statistics.mean(islice(numbers, len(sources))) for system in translations}
    better = "lower" if scorer.lower_is_better else "higher"
    signature = f"{name}|mean of {len(sources)}|{better} is better|{scorer.command}"
    return {system: Score(mean, signature) for system, mean in means.items()}
