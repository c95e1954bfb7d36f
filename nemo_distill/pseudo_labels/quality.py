"""Scores of hypotheses that others compute: a file has them, or a command writes them (`metrics/line_scores.py`).

The command gets the hypotheses as `source<TAB>hypothesis`, a line each, and gives one number a line in the same order.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import section
from nemo_distill.console import console
from nemo_distill.metrics.line_scores import command_problems, score_lines
from nemo_distill.pseudo_labels.selection import Candidate
from nemo_distill.text.files import NumberFiles
from nemo_distill.text.lines import chunks, clean_text

PART = 10_000  # source lines that a command scores at a time, and that a killed job scores again at most


@section
class QualitySettings:
    """Scores of the hypotheses by a metric of your own."""

    metric: str | None = None
    """The name of the metric, such as `COMET`. A result that is judged by the same metric is marked."""
    file: NumberFiles | None = None
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
        return problems + (command_problems(self.command) if self.command else [])

    @property
    def is_given(self) -> bool:
        """True if there are scores."""
        return bool(self.file or self.command)


def hypothesis_lines(candidates: Iterable[Candidate]) -> Iterator[bytes]:
    """Yields `source<TAB>hypothesis` for each hypothesis of each line."""
    for candidate in candidates:
        for hypothesis in candidate.hypotheses:
            yield f"{candidate.source}\t{clean_text(hypothesis.text)}\n".encode()


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
            lines = list(hypothesis_lines(part))
            if lines:
                score_lines("quality.command", command, lines, paths[-1])
            else:  # metrics fail on an empty file
                paths[-1].touch()
    return paths
