"""Presents the results of an evaluation: tables, the verdict, and which differences are significant."""

import csv
import io
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_distill.console import markdown_table, print_list, print_table
from nemo_distill.evaluation.differences import difference_table
from nemo_distill.evaluation.evaluation_record import EVALUATION_NAME, TEXT_ONLY
from nemo_distill.evaluation.findings import digits_of, findings, metrics_of, notes, shown_spread
from nemo_distill.evaluation.likeness import (
    factor,
    kind_in_words,
    like_teacher,
    marked,
    mean_of,
    members,
    trained_otherwise,
)
from nemo_distill.evaluation.speed import MEGABYTE
from nemo_distill.evaluation.verdict import shown_share, verdict_sentences
from nemo_distill.storage.files import write_json, write_text

NOT_MEASURED = "not measured"
SPEED_COLUMNS = {
    "sentences_per_second": "sentences/s",
    "tokens_per_second": "tokens/s",
    "latency_ms_median": "ms alone, median",
    "latency_ms_p95": "ms alone, 95 %",
    "peak_memory_mb": "peak MB",
}
TRAINING_COLUMNS = {
    "steps": "steps",
    "target_tokens": "target tokens",
    "tokens_in_batch": "tokens in a batch",
    "training_seconds": "training, h:mm:ss",
    "preparation_seconds": "labels and caches, h:mm:ss",
}
GAP, OTHERWISE, SMOOTHING = "gap closed", "trained unlike", "label smoothing"
SIZES = ("parameters", "without embeddings", "compression", "MB", "smaller", "sentences/s", "faster")
BRIEF = ("parameters", "MB", "smaller", "sentences/s", "faster", "ms alone, median", OTHERWISE)


def group_spreads(
    scores: Mapping[str, Mapping[str, Mapping[str, Any]]], groups: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Returns the mean and standard deviation of each group with several systems.

    Args:
        scores: for each system, the `value` of each metric.
        groups: the group of each system.

    Returns:
        For each group, the number of `systems`, and for each metric `mean` and sample `standard_deviation` (n - 1).
    """
    spreads: dict[str, dict[str, Any]] = {}
    for group in dict.fromkeys(groups.values()):
        members = [name for name in scores if groups[name] == group]
        if len(members) > 1:
            spreads[group] = {"systems": len(members)}
            for metric in scores[members[0]]:
                values = [scores[name][metric]["value"] for name in members]
                spread = {"mean": statistics.mean(values), "standard_deviation": statistics.stdev(values)}
                spreads[group][metric] = spread
    return spreads


def as_rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns one row per system, from column name to value, or None if there is no value."""
    systems, sets, rows = evaluation["systems"], evaluation["test_sets"], []
    unlike = trained_otherwise(systems)
    for name, system in systems.items():
        group, training, speed = system["group"], system["training"] or {}, system["speed"] or {}
        row = {"system": name, "group": group, "seed": system["seed"], "runs in": kind_in_words(systems, group)}
        for set_name, one in sets.items():
            row |= {f"{set_name} {metric}": score["value"] for metric, score in one["scores"][name].items()}
            closed = one["gaps"].get(group, {}).get("closed") or {}
            row[f"{set_name} {GAP}"] = closed.get("value")
        keys = ("parameters", "parameters_without_embeddings", "bytes", "compression")
        row |= {key: system[key] for key in keys}
        teacher = like_teacher(systems, group)
        row["smaller"] = factor(systems, group, teacher, "bytes")
        row["faster"] = factor(systems, group, teacher, "sentences_per_second")
        row |= {key: speed.get(key) for key in SPEED_COLUMNS}
        row |= {key: training.get(key.removeprefix("training_")) for key in TRAINING_COLUMNS}
        row |= {"label_smoothing": system["label_smoothing"], OTHERWISE: unlike[group]}
        rows.append(row | {"labels_selected_by": ", ".join(system["selected_by"])})
    return rows


def as_csv(evaluation: Mapping[str, Any]) -> str:
    """Returns the rows as CSV, not rounded."""
    rows = as_rows(evaluation)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


Cells = tuple[list[str], list[list[str]]]  # columns, and the cells of each row


def table(evaluation: Mapping[str, Any]) -> Cells:
    """Returns the columns and cells of the table of quality, size and speed, with a row per system, rounded. Empty
    columns are omitted.
    """
    return _filled([_cells(evaluation, row) for row in as_rows(evaluation)])


def group_table(evaluation: Mapping[str, Any], brief: bool = False) -> Cells:
    """Returns a table with a row per group, which has the means of several seeds with their standard deviations.

    Args:
        evaluation: the content of `evaluation.json`.
        brief: with one score per test set, and columns that fit on a screen.
    """
    systems, sets = evaluation["systems"], evaluation["test_sets"]
    rows: dict[str, dict[str, str]] = {}
    for row in as_rows(evaluation):
        group = row["group"]
        if group not in rows:
            named = {"system": group, "seeds": str(len(members(systems, group)))}
            means = {key: mean_of(systems, group, key) for key in ("bytes", *SPEED_COLUMNS)}
            rows[group] = named | _cells(evaluation, row | means) | named
    for name, one in sets.items():
        for group, spread in one["groups"].items():
            for metric in metrics_of(one):
                score = marked(shown_spread(metric, spread[metric]), systems, metric, group)
                rows[group][f"{name} {metric}"] = score
    columns = list(next(iter(rows.values())))
    if brief:
        scores = [
            column
            for name, one in sets.items()
            for column in (f"{name} {metrics_of(one)[0]}", _gap_column(sets, name))
        ]
        columns = ["system", "seeds", "runs in", *scores, *BRIEF]
    if not any(one["groups"] for one in sets.values()):
        columns.remove("seeds")
    return _filled([{column: row[column] for column in columns} for row in rows.values()])


def cost_table(evaluation: Mapping[str, Any]) -> Cells | None:
    """Returns the columns and cells of the table of what the trainings took, with a row per model, which has the means
    of several seeds; None if nothing is known.
    """
    trained: dict[str, list[dict[str, Any]]] = {}
    for row in as_rows(evaluation):
        system = evaluation["systems"][row["system"]]
        if system["engine"] != TEXT_ONLY and not system["same_model_as"]:
            trained.setdefault(row["group"], []).append(row)
    found = []
    for group, rows in trained.items():
        cells = {words: _shown_cost(key, [row[key] for row in rows]) for key, words in TRAINING_COLUMNS.items()}
        smoothing = rows[0]["label_smoothing"]
        found.append({"system": group, **cells, SMOOTHING: "" if smoothing is None else f"{smoothing:g}"})
    if not any(any(list(row.values())[1:]) for row in found):
        return None
    return _filled(found)


def _shown_cost(key: str, of_seeds: Sequence[float | None]) -> str:
    known = [value for value in of_seeds if value is not None]
    mean = statistics.mean(known) if known else None
    return shown_seconds(mean) if key.endswith("seconds") else shown_number(mean, 0)


def _filled(rows: Sequence[Mapping[str, str]]) -> Cells:
    """Returns those columns that have a value in any row, and the cells in them."""
    columns = [column for column in rows[0] if any(row[column] not in ("", NOT_MEASURED) for row in rows)]
    return columns, [[row[column] for column in columns] for row in rows]


def _part(cells: Cells, columns: Collection[str]) -> Cells:
    """Returns those columns of a table that are named."""
    kept = [index for index, column in enumerate(cells[0]) if column in columns]
    return [cells[0][index] for index in kept], [[row[index] for index in kept] for row in cells[1]]


def _gap_column(sets: Collection[str], set_name: str) -> str:
    return GAP if len(sets) == 1 else f"{set_name} {GAP}"


def _cells(evaluation: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, str]:
    unknown = NOT_MEASURED if evaluation["systems"][row["system"]]["engine"] == TEXT_ONLY else ""
    cells = {"system": row["system"], "runs in": row["runs in"]}
    for name, one in evaluation["test_sets"].items():
        for metric in one["scores"][row["system"]]:
            score = shown_number(row[f"{name} {metric}"], digits_of(metric))
            cells[f"{name} {metric}"] = marked(score, evaluation["systems"], metric, row["group"])
        gap = one["gaps"].get(row["group"])
        cells[_gap_column(evaluation["test_sets"], name)] = shown_gap(gap) if gap else ""
    cells |= {
        "parameters": shown_number(row["parameters"], 0) or unknown,
        "without embeddings": shown_number(row["parameters_without_embeddings"], 0),
        "compression": shown_factor(row["compression"]),
        "MB": shown_number(row["bytes"] and row["bytes"] / MEGABYTE, 1) or unknown,
        "smaller": shown_factor(row["smaller"]),
        "sentences/s": shown_number(row["sentences_per_second"], 1) or unknown,
        "faster": shown_factor(row["faster"]),
    }
    cells |= {words: shown_number(row[key], 1) or unknown for key, words in SPEED_COLUMNS.items()}
    return cells | {OTHERWISE: row[OTHERWISE]}


def shown_gap(gap: Mapping[str, Any]) -> str:
    """Returns the share of a gap that is closed, with its confidence interval, or that it is not given."""
    return shown_share(gap["closed"]) if gap["closed"] else "not given"


def shown_number(value: float | None, digits: int) -> str:
    """Returns a number with a separator of thousands; "" if it is not known."""
    return "" if value is None else f"{value:,.{digits}f}"


def shown_factor(value: float | None) -> str:
    """Returns a factor such as `2.5x`; "" if it is not known."""
    return "" if value is None else f"{value:.1f}x"


def shown_seconds(seconds: float | None) -> str:
    """Returns a duration as hours, minutes and seconds; "" if it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def as_markdown(evaluation: Mapping[str, Any]) -> str:
    """Returns the verdict, the tables, the findings and the notes as Markdown."""
    cells, sizes = group_table(evaluation), (*SIZES, *SPEED_COLUMNS.values())
    quality = _part(cells, [column for column in cells[0] if column not in sizes])
    found = (quality, difference_table(evaluation), _part(cells, ["system", *sizes]), cost_table(evaluation))
    tables = [markdown_table(columns, rows) for columns, rows in filter(None, found) if rows and len(columns) > 1]
    texts = (findings(evaluation), notes(evaluation))
    lists = [[f"- {' '.join(line.split())}" for line in lines] for lines in texts]
    said = " ".join(verdict_sentences(evaluation))
    return "\n\n".join([*filter(None, [said]), *tables, *("\n".join(lines) for lines in lists if lines)]) + "\n"


def write_evaluation(evaluation: Mapping[str, Any], folder: Path) -> None:
    """Writes `evaluation.md`, `evaluation.csv` and, last, `evaluation.json`."""
    for name, text in (("evaluation.md", as_markdown(evaluation)), ("evaluation.csv", as_csv(evaluation))):
        write_text(folder / name, text)
    write_json(folder / EVALUATION_NAME, evaluation)


def print_evaluation(evaluation: Mapping[str, Any], folder: Path) -> None:
    """Prints the most important results, the verdict last.

    Args:
        evaluation: as in `evaluation.json`.
        folder: where `evaluation.md` is, which has the rest.
    """
    print_table(*group_table(evaluation, brief=True))
    if costs := cost_table(evaluation):
        told = _part(costs, [column for column in costs[0] if column != SMOOTHING])
        if len(told[0]) > 1:  # more than names
            print_table(*told)
    print_list("\nFindings", findings(evaluation, tested=True))
    more = f"All scores, and how they were computed: {folder / 'evaluation.md'}"
    print_list("How to read the table", [*notes(evaluation, brief=True), more])
    print_list("Verdict", verdict_sentences(evaluation))
