"""The tables of the page: one row per method, one column per test set or swept value, then sizes."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

from nemo_distill.evaluation.evaluation_record import TEXT_ONLY
from nemo_distill.evaluation.evaluation_tables import (
    GAP,
    NOT_MEASURED,
    OTHERWISE,
    SPEED_COLUMNS,
    cost_table,
    shown_factor,
    shown_gap,
    shown_number,
    shown_seconds,
)
from nemo_distill.evaluation.failure_report import significant
from nemo_distill.evaluation.findings import digits_of
from nemo_distill.evaluation.gains import comparisons_between, scores_by_group
from nemo_distill.evaluation.likeness import (
    factor,
    kind_in_words,
    like_teacher,
    marked,
    mean_of,
    trained_otherwise,
)
from nemo_distill.evaluation.speed import MEGABYTE
from nemo_distill.failures.kinds import TITLES
from nemo_distill.metrics.learning_curve import MORE_STEPS, MORE_TEXT, growth, growth_problem, steps_points
from nemo_distill.metrics.significance import CHANCE, group_p_value
from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.runs import LOWER_IS_BETTER, Run
from nemo_distill.report.sweep import Sweep
from nemo_distill.storage.made_with import short_revision

# What is multiplied if a sweep's key ends so: a mix's part of a corpus, its length, and the length of the training.
AMOUNTS = {"fraction": MORE_TEXT, "lines": MORE_TEXT, "max_steps": MORE_STEPS}
GROWTH = (
    "Predictions by a power law through the measured scores, with 95 % intervals. They hold as long as the law does. "
    "A training curve says little if the learning rate was nearly 0 at its end; a sweep of max_steps says more."
)
UNKNOWN = "–"
Points = Sequence[tuple[float, float]]


class Cell(NamedTuple):
    """A table cell: its text, a small `note` after it, a `title` shown on hover, and what of the page it links to."""

    text: str
    note: str = ""
    title: str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table. The first cell of a row is the name of the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def _table(caption: str, rows: Sequence[Mapping[str, Cell]]) -> Table:
    """Returns a table of at least one row, whose keys are the columns."""
    return Table(caption, tuple(rows[0]), [list(row.values()) for row in rows])


def quality_table(evaluation: Evaluation, metric: str, baseline: str) -> Table:
    """Returns the scores of every group on every test set, and the change relative to the group `baseline`.

    Scores are means over the seeds of a group, with their standard deviation. A change and its tests use only the
    seeds that the baseline has too, if there are any. A star means that each seed differs significantly from the
    baseline, all in the same direction. With the metric that it is measured by, the share of the gap to the teacher
    stands beside a score. The table of the first metric also has sizes, and which models of one size were trained
    otherwise.
    """
    sets, groups = evaluation.test_sets, evaluation.groups
    gaps = {name: one["gaps"] for name, one in sets.items()}
    with_gaps = [name for name in sets if any(gap["metric"] == metric for gap in gaps[name].values())]
    scores = {name: scores_by_group(evaluation.record, name, metric) for name in sets}
    first = metric == evaluation.metrics[0]
    unlike = trained_otherwise(evaluation.systems) if first else {}
    rows = []
    for group, names in groups.items():
        cells = [Cell(group)]
        for test_set in sets:
            mine, theirs = (scores[test_set].get(one, {}) for one in (group, baseline))
            change, compared = "", []
            if group != baseline:
                change = _change_of_common_seeds(mine, theirs)
                compared = comparisons_between(evaluation.record, test_set, metric, group, baseline)
            cell = _score_cell(list(mine.values()), change, compared, digits_of(metric))
            cells.append(cell._replace(text=marked(cell.text, evaluation.systems, metric, group)))
            if test_set in with_gaps:
                gap = gaps[test_set].get(group)
                cells.append(_gap_cell(gap) if gap else Cell(""))
        system = evaluation.systems[names[0]]
        cells += [_count(system["parameters"]), _factor(system["compression"])] if first else []
        rows.append([*cells, Cell(unlike[group])] if any(unlike.values()) else cells)
    caption = f"{metric}, and its change relative to {baseline}"
    gap_column = GAP if len(sets) == 1 else "{} " + GAP
    scored = [column for name in sets for column in (name, *([gap_column.format(name)] if name in with_gaps else []))]
    sizes = ("parameters", "compression") if first else ()
    columns = ("system", *scored, *sizes, *([OTHERWISE] if any(unlike.values()) else ()))
    return Table(caption, columns, rows)


def _gap_cell(gap: Mapping[str, Any]) -> Cell:
    text, _, bounds = shown_gap(gap).partition(" (")
    return Cell(text, bounds.rstrip(")"), gap["reason"] or "")


def speed_table(evaluation: Evaluation) -> Table:
    """Returns the sizes and speeds of all groups. Speeds are omitted if none was measured."""
    systems = evaluation.systems
    speeds = SPEED_COLUMNS if any(system["speed"] for system in systems.values()) else {}
    factors = {"bytes": "smaller", **({"sentences_per_second": "faster"} if speeds else {})}
    rows = []
    for group, names in evaluation.groups.items():
        unknown = NOT_MEASURED if systems[names[0]]["engine"] == TEXT_ONLY else UNKNOWN
        teacher = like_teacher(systems, group)
        size = mean_of(systems, group, "bytes")
        row = {"system": Cell(group), "runs in": Cell(kind_in_words(systems, group))}
        row["MB"] = Cell(shown_number(size and size / MEGABYTE, 1) or unknown)
        row |= {words: _factor(factor(systems, group, teacher, key)) for key, words in factors.items()}
        row |= {words: Cell(shown_number(mean_of(systems, group, key), 1) or unknown) for key, words in speeds.items()}
        rows.append(row)
    return _table("", rows)


def failure_rates(evaluation: Evaluation, test_set: str, linked: bool) -> Table:
    """Returns the failures per thousand sentences: a row for each kind that some system has, a column per system.

    Args:
        evaluation: an evaluation whose failures were counted.
        test_set: the name of the test set.
        linked: whether the cells link to the sentences in the reader.
    """
    one = evaluation.failures[test_set]
    found = {kind: part["systems"] for kind, part in one["kinds"].items() if "systems" in part}
    systems = list(dict.fromkeys(system for counts in found.values() for system in counts))
    differ = {(comparison["kind"], comparison["system"]): comparison for comparison in significant(one)}
    rows = []
    for kind, counts in found.items():
        if any(count["hits"] for count in counts.values()):
            cells = []
            for system in systems:
                reader = {"set": test_set, "failure": kind, "system": system} if linked else {}
                cells.append(_failure_cell(counts[system], differ.get((kind, system)), reader))
            rows.append([Cell(TITLES[kind]), *cells])
    return Table(f"{test_set}, failures per thousand sentences", ("failure", *systems), rows)


def _failure_cell(count: Mapping[str, Any], differs: Mapping[str, Any] | None, reader: Mapping[str, str]) -> Cell:
    if not (rate := count["rate"]):
        return Cell("no verdict")
    hits = len(count["hits"])
    title = f"{hits:,} of {count['judged']:,} sentences"
    if differs:
        title += f"; differs from {differs['baseline']}: p = {differs['p_value_holm']:.2g} by Holm"
    text = f"{rate['per_thousand']:.1f}" + ("*" if differs else "")
    link = urlencode(reader) if hits and reader else ""
    return Cell(text, f"{rate['low']:.1f} to {rate['high']:.1f}", title, link and f"#{link}")


def costs_table(evaluation: Evaluation) -> Table | None:
    """Returns what the trainings took: steps, tokens and time; None if nothing is known."""
    if not (found := cost_table(evaluation.record)):
        return None
    columns, rows = found
    return Table("", columns, [[Cell(cell or UNKNOWN) for cell in row] for row in rows])


def sweep_table(sweep: Sweep, baseline: str | None) -> Table:
    """Returns the scores of a sweep: one row per method, one column per value of the key.

    Args:
        sweep: the sweep.
        baseline: the name of the training to compare scores with. If there is no such training, none are compared.
    """
    theirs = [sweep.scores[baseline]] if baseline is not None and baseline in sweep.scores else []
    rows = []
    for method, points in sweep.methods.items():
        found = [points.get(value, ()) for value in sweep.values]
        cells = [_score_cell(scores, _change(scores, theirs)) for scores in found]
        sizes = {
            (run.record.get("parameters"), run.record.get("teacher_parameters"))
            for run in sweep.runs
            if sweep.method(run) == method
        }
        size, teacher = sizes.pop() if len(sizes) == 1 else (None, None)  # a row may contain models of different sizes
        compression = teacher / size if size and teacher else None
        rows.append([Cell(method), *cells, _count(size), _factor(compression)])
    columns = [f"{sweep.short(sweep.key)} {value}" if sweep.key else sweep.score_name for value in sweep.values]
    note = f", and its change relative to {baseline}" if theirs else ""
    return Table(f"{sweep.score_name}{note}", ("method", *columns, "parameters", "compression"), rows)


def growth_table(runs: Sequence[Run], sweeps: Sequence[Sweep], tag: str) -> Table | None:
    """Returns what more steps or text would bring, or why that is not predicted; None without anything to say.

    Args:
        runs: the trainings.
        sweeps: the sweeps.
        tag: the scalar that training curves are of.
    """
    rows = [*_growth_of_runs(runs, tag), *_growth_of_sweeps(sweeps)]
    columns = ("what grows", "scores", "largest", "now, by the curve", "predicted for", "gain")
    return Table("", columns, rows) if rows else None


def _growth_of_runs(runs: Sequence[Run], tag: str) -> Iterator[list[Cell]]:
    for run in runs:
        if points := steps_points(run.curves.get(tag, ())):
            yield _growth_row(f"steps of {run.name}, {tag}", points, MORE_STEPS, bool(LOWER_IS_BETTER.search(tag)))


def _growth_of_sweeps(sweeps: Sequence[Sweep]) -> Iterator[list[Cell]]:
    for sweep in sweeps:
        for key in sweep.numeric_keys:
            if times := AMOUNTS.get(key.rpartition(".")[2]):
                for method, by_value in sweep.along(key).methods.items():
                    points = [(float(value), score) for value, scores in by_value.items() for score in scores]
                    name = sweep.short(key) if method == "all" else f"{sweep.short(key)}, {method}"
                    yield _growth_row(f"{name}, {sweep.score_name}", points, times, sweep.lower_is_better)


def _growth_row(name: str, points: Points, times: int, lower_is_better: bool) -> list[Cell]:
    sign = -1 if lower_is_better else 1
    points = [(amount, sign * score) for amount, score in points]
    if problem := growth_problem(points):
        return [Cell(name), Cell(f"{len(points)}"), Cell(""), Cell(""), Cell(""), Cell(f"not predicted: {problem}")]
    found = growth(points, times)
    low, high = sorted((sign * found.low, sign * found.high))
    gain = Cell(f"{sign * found.gain:+.2f}", f"{low:+.2f} to {high:+.2f}")
    amounts = [Cell(f"{found.amount:,g}"), Cell(f"{sign * found.now:.2f}"), Cell(f"{times * found.amount:,g}")]
    return [Cell(name), Cell(f"{len(points)}"), *amounts, gain]


def runs_table(runs: Sequence[Run]) -> Table:
    """Returns how each training was made and how it ended."""
    return _table("Trainings", [_run_row(run) for run in runs])


def _run_row(run: Run) -> dict[str, Cell]:
    record, made_with = run.record, run.record.get("made_with") or {}
    best = record.get("best")
    versions = ", ".join(f"{name} {version}" for name, version in (made_with.get("versions") or {}).items())
    seed, revision, date = record.get("seed"), made_with.get("git_revision"), made_with.get("date")
    return {
        "training": Cell(run.name, title=" ".join(record.get("overrides") or ())),
        "status": Cell(record.get("status", "unknown")),
        "best": Cell(f"{best['value']:.4g}", best["monitor"]) if best else Cell(""),
        "steps": _count(record.get("steps")),
        "epochs": Cell(shown_number(record.get("epochs"), 1) or UNKNOWN),
        "target tokens": _count(record.get("target_tokens")),
        "wall time, h:mm:ss": Cell(shown_seconds(record.get("seconds"))),
        "seed": Cell("" if seed is None else str(seed)),
        "device": Cell(made_with.get("device") or ""),
        "revision": Cell(short_revision(revision) if revision else "", title=revision or ""),
        "made": Cell((date or "")[:10], title=f"{date}; {versions}" if made_with else ""),
    }


def _change_of_common_seeds(mine: Mapping[int | None, float], theirs: Mapping[int | None, float]) -> str:
    """Returns the change of the mean score, over all seeds if two groups have none in common."""
    common = [seed for seed in mine if seed is not None and seed in theirs]
    return _change([mine[seed] for seed in common or mine], [theirs[seed] for seed in common or theirs])


def _change(scores: Sequence[float], baseline: Sequence[float]) -> str:
    """Returns the change of the mean as a share of the baseline's, or as it is where that is not above 0."""
    if not scores or not baseline:
        return ""
    mine, theirs = statistics.mean(scores), statistics.mean(baseline)
    return f"{100 * (mine / theirs - 1):+.1f} %" if theirs > 0 else f"{mine - theirs:+.2f}"


def _score_cell(
    scores: Sequence[float], change: str = "", compared: Sequence[Mapping[str, Any]] = (), digits: int = 2
) -> Cell:
    if not scores:
        return Cell(UNKNOWN)
    text = f"{statistics.mean(scores):.{digits}f}"
    if len(scores) > 1:
        text += f" ± {statistics.stdev(scores):.{digits}f}"
    if compared and group_p_value(compared) < CHANCE:
        text += "*"
    title = ", ".join(f"{one['system']} against {one['baseline']}: p = {one['p_value']:.3g}" for one in compared)
    return Cell(text, change, title)


def _count(value: int | None) -> Cell:
    return Cell(shown_number(value, 0) or UNKNOWN)


def _factor(value: float | None) -> Cell:
    return Cell(shown_factor(value) or UNKNOWN)
