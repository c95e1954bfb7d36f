"""What more text or more steps would bring: a table of predictions from training curves and sweeps."""

from collections.abc import Iterator, Sequence

from nemo_distill.metrics.learning_curve import MORE_STEPS, MORE_TEXT, growth, growth_problem, steps_points
from nemo_distill.report.runs import LOWER_IS_BETTER, Run
from nemo_distill.report.sweep import Sweep
from nemo_distill.report.tables import Cell, Table

# What is multiplied if a sweep's key ends so: a mix's part of a corpus, its length, and the length of the training.
AMOUNTS = {"fraction": MORE_TEXT, "lines": MORE_TEXT, "max_steps": MORE_STEPS}
NOTE = (
    "Predictions by a power law through the measured scores, with 95 % intervals. They hold as long as the law does. "
    "A training curve says little if the learning rate was nearly 0 at its end; a sweep of max_steps says more."
)
Points = Sequence[tuple[float, float]]


def growth_table(runs: Sequence[Run], sweeps: Sequence[Sweep], tag: str) -> Table | None:
    """Returns what more steps or text would bring, or why that is not predicted; None without anything to say.

    Args:
        runs: the trainings.
        sweeps: the sweeps.
        tag: the scalar that training curves are of.
    """
    rows = [*_of_runs(runs, tag), *_of_sweeps(sweeps)]
    columns = ("what grows", "scores", "largest", "now, by the curve", "predicted for", "gain")
    return Table("", columns, rows) if rows else None


def _of_runs(runs: Sequence[Run], tag: str) -> Iterator[list[Cell]]:
    for run in runs:
        if points := steps_points(run.curves.get(tag, ())):
            yield _row(f"steps of {run.name}, {tag}", points, MORE_STEPS, bool(LOWER_IS_BETTER.search(tag)))


def _of_sweeps(sweeps: Sequence[Sweep]) -> Iterator[list[Cell]]:
    for sweep in sweeps:
        for key in sweep.numeric_keys:
            if factor := AMOUNTS.get(key.rpartition(".")[2]):
                for method, by_value in sweep.along(key).methods.items():
                    points = [(float(value), score) for value, scores in by_value.items() for score in scores]
                    name = sweep.short(key) if method == "all" else f"{sweep.short(key)}, {method}"
                    yield _row(f"{name}, {sweep.score_name}", points, factor, sweep.lower_is_better)


def _row(name: str, points: Points, factor: int, lower_is_better: bool) -> list[Cell]:
    sign = -1 if lower_is_better else 1
    points = [(amount, sign * score) for amount, score in points]
    if problem := growth_problem(points):
        return [Cell(name), Cell(f"{len(points)}"), Cell(""), Cell(""), Cell(""), Cell(f"not predicted: {problem}")]
    found = growth(points, factor)
    low, high = sorted((sign * found.low, sign * found.high))
    gain = Cell(f"{sign * found.gain:+.2f}", f"{low:+.2f} to {high:+.2f}")
    amounts = [Cell(f"{found.amount:,g}"), Cell(f"{sign * found.now:.2f}"), Cell(f"{factor * found.amount:,g}")]
    return [Cell(name), Cell(f"{len(points)}"), *amounts, gain]
