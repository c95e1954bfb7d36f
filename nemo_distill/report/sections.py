"""The sections of the page: what is shown about trainings and an evaluation, and in which order."""

import statistics
from collections.abc import Iterator, Sequence

from nemo_distill.evaluation.evaluation_tables import CHANCE, UNITS
from nemo_distill.metrics.scores import FEWER_IS_BETTER
from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.page import Section
from nemo_distill.report.plots import Plot, front_plot, line_plot
from nemo_distill.report.runs import Run
from nemo_distill.report.sweep import Sweep, find_sweeps
from nemo_distill.report.tables import Cell, Table, quality_table, runs_table, speed_table, sweep_table

# The plots of quality: key, title, label of the x axis, and whether smaller x is better.
FRONTS = (
    ("parameters", "Quality against size", "parameters", True),
    ("bytes", "Quality against the size of the files", "bytes", True),
    ("sentences_per_second", "Quality against speed", "sentences per second", False),
)
STARS = (
    "Scores are means over seeds, ± their standard deviation. A change uses only the seeds that the baseline has too. "
    f"* means that each seed differs from the baseline with p < {CHANCE}, "
    "all in the same direction. Hover over a score to see p. It accounts for the choice of sentences, not of seeds."
)


def report_sections(
    runs: Sequence[Run], evaluation: Evaluation | None, metric: str, baseline: str | None, curves: Sequence[str]
) -> Iterator[Section]:
    """Yields the page's parts in order.

    Args:
        runs: the trainings; may be none.
        evaluation: None if there is none.
        metric: of the fronts, and of a sweep whose models were all evaluated.
        baseline: a group of systems or a training; None for what the evaluation compared with.
        curves: names of logged scalars; the last one's best value is a training's score.
    """
    if evaluation:
        yield _quality(evaluation, baseline)
        yield _size_and_speed(evaluation, metric)
    for number, sweep in enumerate(find_sweeps(runs, curves[-1], evaluation, metric), start=1):
        yield Section(f"Sweep {number}", "", [sweep_table(sweep, baseline)], _sweep_plots(sweep, number))
    yield Section("While training", "", (), [*_curves(runs, curves)])
    if runs:
        note = "A training with the status running is still running or was killed."
        yield Section("How each model was made", note, [runs_table(runs)])


def _quality(evaluation: Evaluation, baseline: str | None) -> Section:
    baseline = baseline if baseline in evaluation.groups else evaluation.default_baseline
    tables = [quality_table(evaluation, metric, baseline) for metric in evaluation.metrics]
    return Section("Quality", f"{UNITS} {STARS}", [*tables, _signatures(evaluation)])


def _size_and_speed(evaluation: Evaluation, metric: str) -> Section:
    table, made = speed_table(evaluation), evaluation.made_with
    note = f"Measured on {made['device']} with {made['threads']} thread(s), {made['date']}." if table and made else ""
    return Section("Quality against size and speed", note, [table] if table else [], [*_fronts(evaluation, metric)])


def _signatures(evaluation: Evaluation) -> Table:
    """Returns a table of sacrebleu's signatures."""
    found = {
        (metric, score.get("signature") or ""): None
        for part in evaluation.test_sets.values()
        for of_system in part["scores"].values()
        for metric, score in of_system.items()
    }
    return Table(
        "How the scores were computed", ("metric", "sacrebleu's signature"), [[*map(Cell, row)] for row in found]
    )


def _fronts(evaluation: Evaluation, metric: str) -> Iterator[Plot]:
    y_label = metric if len(evaluation.test_sets) == 1 else f"{metric}, mean over the test sets"
    for key, title, x_label, smaller_is_better in FRONTS:
        points = {}
        for group, names in evaluation.groups.items():
            pairs = [(evaluation.measured(name, key), evaluation.average(name, metric)) for name in names]
            if all(x and y is not None for x, y in pairs):
                points[group] = tuple(map(statistics.mean, zip(*pairs)))
        if len(points) > 1:
            smaller = (smaller_is_better, metric in FEWER_IS_BETTER)
            yield front_plot(f"front_{key}", title, (x_label, y_label), points, smaller)


def _sweep_plots(sweep: Sweep, number: int) -> list[Plot]:
    plots = []
    for key in sweep.numeric_keys:
        along, axis = sweep.along(key), sweep.short(key)
        lines = {
            method: [(float(value), statistics.mean(points[value])) for value in along.values if value in points]
            for method, points in along.methods.items()
        }
        title, labels = f"Quality by {axis}", (axis, sweep.score_name)
        plots.append(line_plot(f"sweep_{number}_{axis}", title, labels, lines, marker="o"))
    return plots


def _curves(runs: Sequence[Run], tags: Sequence[str]) -> Iterator[Plot]:
    for tag in tags:
        if lines := {run.name: run.curves[tag] for run in runs if run.curves.get(tag)}:
            yield line_plot(f"curve_{tag.replace('/', '_')}", tag, ("optimizer steps", tag), lines)
