"""The page: what it shows about trainings and an evaluation, and in which order. One HTML file, without a network."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from nemo_distill.evaluation.explanation_tables import explanation_tables, remarks, what_to_change
from nemo_distill.evaluation.failure_report import NOTES, failure_findings
from nemo_distill.evaluation.findings import ALIKE, GAPS, UNITS, gap_sentences, mark_notes
from nemo_distill.evaluation.likeness import mean_of
from nemo_distill.failures.kinds import TITLES
from nemo_distill.metrics.significance import CHANCE
from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.plots import Plot, front_plot, line_plot
from nemo_distill.report.runs import Run
from nemo_distill.report.sweep import Sweep, find_sweeps
from nemo_distill.report.tables import (
    GROWTH,
    Cell,
    Table,
    costs_table,
    failure_rates,
    growth_table,
    quality_table,
    runs_table,
    speed_table,
    sweep_table,
)

TEMPLATES = Path(__file__).parent

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
UNLIKE = (
    '"Trained unlike" names models of the same size that were trained for another number of steps or with another '
    "number of tokens in a batch. A better score than theirs does not show a better method."
)


@dataclass(frozen=True)
class Section:
    """A section of the page: a title, the sentences of a `verdict`, tables, plots, and `notes` that explain them."""

    title: str
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    verdict: Sequence[str] = ()


def render_page(
    title: str, verdict: Sequence[str], sections: Sequence[Section], sentences: Mapping[str, Any] | None
) -> str:
    """Returns the page as HTML. All text is escaped.

    Args:
        title: the title of the page.
        verdict: the sentences that the page opens with; may be none.
        sections: the sections in order. Sections without tables and plots are omitted.
        sentences: the data from `reader_data`; None omits the sentence reader.
    """
    environment = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(TEMPLATES))
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # systems stay in their order
    template = environment.get_template("page.html")
    filled = [section for section in sections if section.tables or section.plots]
    return template.render(title=title, verdict=verdict, sections=filled, sentences=sentences)


def report_sections(
    runs: Sequence[Run],
    evaluation: Evaluation | None,
    metric: str,
    baseline: str | None,
    curves: Sequence[str],
    reader: bool = True,
    explanation: Mapping[str, Any] | None = None,
) -> Iterator[Section]:
    """Yields the page's parts in order.

    Args:
        runs: the trainings; may be none.
        evaluation: None if there is none.
        metric: of the fronts, and of a sweep whose models were all evaluated.
        baseline: a group of systems or a training; None for what the evaluation compared with.
        curves: names of logged scalars; the last one's best value is a training's score.
        reader: whether the page has the sentence reader, which rates of failures link to.
        explanation: the content of `explanation.json`; None if there is none.
    """
    if evaluation:
        yield _quality(evaluation, baseline)
    if explanation:
        yield _why(explanation)
    if evaluation:
        if evaluation.failures:
            yield _failures(evaluation, reader)
        yield _size_and_speed(evaluation, metric)
        if costs := costs_table(evaluation):
            yield Section("What each training took", (), [costs])
    sweeps = find_sweeps(runs, curves[-1], evaluation, metric)
    for number, sweep in enumerate(sweeps, start=1):
        yield Section(f"Sweep {number}", (), [sweep_table(sweep, baseline)], _sweep_plots(sweep, number))
    if more := growth_table(runs, sweeps, curves[-1]):
        yield Section("What more text or steps would bring", [GROWTH], [more])
    yield Section("While training", (), (), [*_curves(runs, curves)])
    if runs:
        note = "A training with the status running is still running or was killed."
        yield Section("How each model was made", [note], [runs_table(runs)])
    if evaluation:
        yield Section("How the scores were computed", (), [_signatures(evaluation)])


def _quality(evaluation: Evaluation, baseline: str | None) -> Section:
    baseline = baseline if baseline in evaluation.groups else evaluation.default_baseline
    tables = [quality_table(evaluation, metric, baseline) for metric in evaluation.metrics]
    reasons = [
        f"{test_set}: {said}"
        for test_set in evaluation.test_sets
        for said in gap_sentences(evaluation.record, test_set)
        if "not given" in said
    ]
    gaps = [GAPS, *reasons] if any(one["gaps"] for one in evaluation.test_sets.values()) else []
    unlike = [UNLIKE] if any("trained unlike" in table.columns for table in tables) else []
    marks = mark_notes(evaluation.systems, evaluation.metrics)
    return Section("Quality", [*gaps, *unlike, *marks, UNITS, STARS], tables)


def _why(explanation: Mapping[str, Any]) -> Section:
    tables = [
        Table(caption, columns, [[*map(Cell, row)] for row in rows])
        for caption, columns, rows in explanation_tables(explanation)
    ]
    return Section("Why the gap", list(remarks(explanation)), tables, verdict=list(what_to_change(explanation)))


def _failures(evaluation: Evaluation, linked: bool) -> Section:
    """Returns the rates of failures. A sentence about several test sets stands there once."""
    tables = [failure_rates(evaluation, test_set, linked) for test_set in evaluation.failures]
    about: dict[str, list[str]] = {}
    for test_set, one in evaluation.failures.items():
        for sentence in [*failure_findings(one), *_never_found(one)]:
            about.setdefault(sentence, []).append(test_set)
    said = [f"{', '.join(test_sets)}: {sentence}" for sentence, test_sets in about.items()]
    return Section("Failures", [*said, *NOTES], tables)


def _never_found(one: Mapping[str, Any]) -> Iterator[str]:
    found = {kind: part["systems"].values() for kind, part in one["kinds"].items() if "systems" in part}
    absent = [TITLES[kind] for kind, counts in found.items() if not any(count["hits"] for count in counts)]
    if absent:
        yield f"Not found in any system: {', '.join(absent)}."


def _size_and_speed(evaluation: Evaluation, metric: str) -> Section:
    table, made = speed_table(evaluation), evaluation.record["made_with"]
    measured = []
    if any(system["speed"] for system in evaluation.systems.values()):
        where = f"{made['device']} with {made['threads']} thread(s)"
        where += f", {made['timed'][:10]}" if made.get("timed") else ""
        measured = [f"Speed was measured on {where}. Of several seeds, the first was timed."]
    notes = [ALIKE, *measured, *evaluation.record["notes"]]
    return Section("Size and speed", notes, [table], [*_fronts(evaluation, metric)])


def _signatures(evaluation: Evaluation) -> Table:
    """Returns a table of sacrebleu's signatures."""
    found = {
        (metric, score["signature"]): None
        for part in evaluation.test_sets.values()
        for of_system in part["scores"].values()
        for metric, score in of_system.items()
    }
    return Table("", ("metric", "sacrebleu's signature"), [[*map(Cell, row)] for row in found])


def _fronts(evaluation: Evaluation, metric: str) -> Iterator[Plot]:
    y_label = metric if len(evaluation.test_sets) == 1 else f"{metric}, mean over the test sets"
    for key, title, x_label, smaller_is_better in FRONTS:
        points = {}
        for group, names in evaluation.groups.items():
            cost = mean_of(evaluation.systems, group, key)
            known = [score for name in names if (score := evaluation.average(name, metric)) is not None]
            if cost and len(known) == len(names):
                points[group] = (cost, statistics.mean(known))
        if len(points) > 1:
            smaller = (smaller_is_better, evaluation.is_lower_better(metric))
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
            yield line_plot(f"curve_{tag}", tag, ("optimizer steps", tag), lines)
