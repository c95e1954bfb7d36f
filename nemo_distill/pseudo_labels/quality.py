"""Scores of hypotheses that others compute: a file has them, or a command writes them.

Metrics such as COMET need packages that conflict with NeMo, so they run in an environment of their own. They get the
hypotheses as `source<TAB>hypothesis`, a line each, and give one number a line, in the same order.
"""

import math
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import section
from nemo_distill.console import console
from nemo_distill.pseudo_labels.judge import Candidate
from nemo_distill.storage.files import whole_file
from nemo_distill.text.files import InputFiles
from nemo_distill.text.lines import TextFiles, chunks, clean_text

PLACES = ("{hypotheses}", "{scores}")
PART = 10_000  # source lines that a command scores at a time, and that a killed job scores again at most
SHOWN = 2000  # characters of what a command that failed has printed


@section
class QualitySettings:
    """Scores of the hypotheses by a metric of your own."""

    metric: str | None = None
    """The name of the metric, such as `COMET`. A result that is judged by the same metric is marked."""
    file: InputFiles | None = None
    """The scores, one number a line, for the lines of `pseudo.hypotheses.tsv` (see `keep_hypotheses`)."""
    command: str | None = None
    """A command that reads the file `{hypotheses}`, of lines `source<TAB>hypothesis`, and writes `{scores}`, one
    number a line. It runs without a shell, for 10,000 source lines at a time."""
    lower_is_better: bool = False
    """The best hypothesis has the lowest score, as with MetricX."""

    def problems(self) -> list[str]:
        """Returns a sentence for each thing that is wrong with the keys together."""
        problems = []
        if self.file and self.command:
            problems.append(f"command={self.command}: file gives the scores already; use only one of them.")
        if (self.file or self.command) and not self.metric:
            problems.append("metric has no value; give the name of the metric, so that results can be marked.")
        return problems + (_command_problems(self.command) if self.command else [])

    @property
    def is_given(self) -> bool:
        """True if there are scores."""
        return bool(self.file or self.command)


def _command_problems(command: str) -> list[str]:
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


def hypothesis_lines(candidates: Iterable[Candidate]) -> Iterator[bytes]:
    """Yields `source<TAB>hypothesis` for each hypothesis of each line."""
    for candidate in candidates:
        for hypothesis in candidate.hypotheses:
            yield f"{candidate.source}\t{clean_text(hypothesis.text)}\n".encode()


def read_scores(paths: Sequence[Path], lower_is_better: bool = False) -> Iterator[float]:
    """Yields the numbers in files, one a line; the better, the higher.

    Raises:
        DataError: if a line is not a number.
    """
    for path in paths:
        for number, line in enumerate(TextFiles([path]), start=1):
            try:
                score = float(line)
            except ValueError:
                score = math.nan
            if not math.isfinite(score):
                said = line.decode("utf-8", "replace")[:60]
                raise DataError(f"'{path}', line {number}: '{said}' is not a score; it must be a number.")
            yield -score if lower_is_better else score


def with_scores(candidates: Iterable[Candidate], scores: Iterator[float], named: str) -> Iterator[Candidate]:
    """Yields the candidates with the qualities of their hypotheses.

    Args:
        scores: one for each hypothesis of each line.

    Raises:
        DataError: if there are more or fewer scores than hypotheses.
    """
    for candidate in candidates:
        wanted = len(candidate.hypotheses)
        found = list(islice(scores, wanted))
        if len(found) < wanted:
            raise DataError(f"{named} ends before source line {candidate.line}: it needs one score per hypothesis.")
        yield Candidate(candidate.source, candidate.rows, candidate.reference, found)
    if next(scores, None) is not None:
        raise DataError(f"{named} goes on after the last hypothesis: it needs one score per hypothesis.")


def score_files(command: str, folder: Path, candidates: Callable[[], Iterator[Candidate]]) -> list[Path]:
    """Runs the command for each part of the lines that has no scores yet, and returns the files with the scores.

    Args:
        folder: where the scores are kept; another one for each command and each set of labels.

    Raises:
        DataError: if the command fails, or does not write one number per hypothesis.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for part in chunks(candidates(), PART):
        paths.append(folder / f"part-{len(paths):06d}.txt")
        if not paths[-1].is_file():
            console.info(f"Scoring the hypotheses of source lines {part[0].line:,} to {part[-1].line:,}")
            _run(command, part, paths[-1])
    return paths


def _run(command: str, part: Sequence[Candidate], output: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given, scores = (Path(folder) / name for name in ("hypotheses.tsv", "scores.txt"))
        with given.open("wb") as stream:
            stream.writelines(hypothesis_lines(part))
        names = dict(zip(PLACES, map(str, (given, scores))))
        words = [_filled(word, names) for word in shlex.split(command)]
        run = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if run.returncode or not scores.is_file():
            ended = f"ended with exit code {run.returncode}" if run.returncode else "wrote no {scores}"
            raise DataError(f"quality.command {ended}:\n{(run.stdout + run.stderr)[-SHOWN:]}")
        wanted, found = sum(len(candidate.hypotheses) for candidate in part), sum(1 for _ in read_scores([scores]))
        if found != wanted:
            raise DataError(f"quality.command wrote {found} scores for {wanted} hypotheses.")
        with whole_file(output) as stream:
            stream.write(scores.read_bytes())


def _filled(word: str, names: dict[str, str]) -> str:
    for place, name in names.items():
        word = word.replace(place, name)
    return word
