"""Presents the results of an evaluation: a table, the spread over seeds, and which differences are significant."""

import csv
import io
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nemo_distill.evaluation.comet import NOT_COMPUTED
from nemo_distill.evaluation.gains import gain_sentences, scores_by_group
from nemo_distill.evaluation.speed import MEGABYTE
from nemo_distill.evaluation.tables import markdown_table, print_table
from nemo_distill.metrics.contrasts import CONFIDENCE, EXACTNESS, Contrast
from nemo_distill.metrics.scores import FEWER_IS_BETTER
from nemo_distill.metrics.significance import both_ways, group_p_value
from nemo_distill.storage.files import whole_file, write_json

EVALUATION_NAME = "evaluation.json"
CHANCE = 0.05  # differences with a smaller p-value are significant
LEAST_P = 0.0001  # smaller p-values are printed as "p < 0.0001"
SIZE_COLUMNS = ("group", "seed", "engine", "parameters", "parameters_without_embeddings", "bytes", "compression")
TRAINING_COLUMNS = {"training_seconds": "training s", "label_smoothing": "label smoothing"}
DIGITS = {"COMET": 4}  # behind the point; 2 of all others
SPEED_COLUMNS = {
    "sentences_per_second": "sentences/s",
    "tokens_per_second": "tokens/s",
    "latency_ms_median": "ms alone, median",
    "latency_ms_p95": "ms alone, 95 %",
    "peak_memory_mb": "peak MB",
}
BRIEF = (
    *("system", "parameters", "MB", "compression", *TRAINING_COLUMNS.values()),
    *("sentences/s", "ms alone, median", "peak MB"),
)
UNITS = "BLEU and chrF are points of 0 to 100; TER is edits for 100 words of the reference, fewer are better."
SEEDS = f"""\
After a mean, ± is the standard deviation over seeds; after a difference of groups, what seeds may add or take
({CONFIDENCE:.0%}, by Student's t of the differences seed by seed). A p is of the choice of
sentences, for one seed by itself; of a group it is the worst seed's, and 1 where seeds differ in direction."""
MEASURED = """\
Sentences and tokens a second are of many sentences together, milliseconds of one alone; systems were timed
in turns, each in a process of its own, with {threads} thread(s) on {device}; CTranslate2 has a batch for each thread,
and so one for a sentence alone. Tokens are counted as BLEU counts them.
Peak MB is that process's main memory, libraries included; MB are megabytes on disk."""


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
    rows = []
    for name, system in evaluation["systems"].items():
        row = {"system": name, **{key: system[key] for key in SIZE_COLUMNS}}
        row |= {key: system.get(key) for key in TRAINING_COLUMNS}
        for set_name, one in evaluation["test_sets"].items():
            row |= {f"{set_name} {metric}": score["value"] for metric, score in one["scores"][name].items()}
        rows.append(row | {key: (system["speed"] or {}).get(key) for key in SPEED_COLUMNS})
    return rows


def as_csv(evaluation: Mapping[str, Any]) -> str:
    """Returns the rows as CSV, not rounded."""
    rows = as_rows(evaluation)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def table(evaluation: Mapping[str, Any], brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """Returns the columns and cells of the table, rounded. Columns without values are omitted.

    Args:
        evaluation: the content of `evaluation.json`.
        brief: only one score per test set, and only as many size and speed columns as fit on a screen.
    """
    rows = [_cells(row) for row in as_rows(evaluation)]
    columns = [column for column in rows[0] if any(row[column] != "" for row in rows)]
    if brief:
        shown = {f"{name} {next(iter(_scores(one)[0]))}" for name, one in evaluation["test_sets"].items()}
        columns = [column for column in columns if column in shown or column in BRIEF]
    return columns, [[row[column] for column in columns] for row in rows]


def _scores(one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(one["scores"].values())


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    cells = {
        "system": row["system"],
        "engine": row["engine"],
        "parameters": _number(row["parameters"], 0),
        "without embeddings": _number(row["parameters_without_embeddings"], 0),
        "MB": _number(row["bytes"] / MEGABYTE, 1),
        "compression": "" if row["compression"] is None else f"{row['compression']:.1f}x",
        "training s": _number(row["training_seconds"], 0),
        "label smoothing": "" if row["label_smoothing"] is None else f"{row['label_smoothing']:g}",
    }
    for column in [column for column in row if column not in ("system", *SIZE_COLUMNS, *TRAINING_COLUMNS)]:
        metric = column.rpartition(" ")[2]
        digits = 1 if column in SPEED_COLUMNS else DIGITS.get(metric, 2)
        cells[SPEED_COLUMNS.get(column, column)] = _number(row[column], digits)
    return cells


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def findings(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Says of each comparison how large the difference is and whether it may be chance, of groups their spread, and of
    distilled groups whether they beat the baselines of their size."""
    for set_name, one in evaluation["test_sets"].items():
        for found in one["comparisons"]:
            verdict = _verdict(found["p_value"] < CHANCE)
            test = found["test"].replace("_", " ")
            yield (
                f"{set_name}: {found['system']} has {found['difference']:+.2f} {found['metric']} against "
                f"{found['baseline']}, {verdict} ({shown_p_value(found['p_value'])}, {test} of {found['samples']:,})."
            )
        for group, spread in one["groups"].items():
            for metric in [key for key in spread if key != "systems"]:
                digits = DIGITS.get(metric, 2)
                mean, deviation = spread[metric]["mean"], spread[metric]["standard_deviation"]
                yield (
                    f"{set_name}: {group} has {mean:.{digits}f} ± {deviation:.{digits}f} {metric} over "
                    f"{spread['systems']} seeds."
                )
            yield from _group_findings(evaluation, set_name, group)
        metrics = [metric for metric in _scores(one)[0] if metric not in FEWER_IS_BETTER]
        for metric in metrics[:1]:
            yield from (f"{set_name}: {said}" for said in gain_sentences(evaluation, set_name, metric))


def _group_findings(evaluation: Mapping[str, Any], set_name: str, group: str) -> Iterator[str]:
    """Yields a sentence for each comparison of a group: the difference over seeds, and the largest p-value."""
    one = evaluation["test_sets"][set_name]
    groups = {name: system["group"] for name, system in evaluation["systems"].items()}
    compared: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for found in both_ways(one["comparisons"]):
        if groups[found["system"]] == group != groups[found["baseline"]]:
            compared.setdefault((groups[found["baseline"]], found["metric"]), []).append(found)
    for (baseline, metric), comparisons in compared.items():
        scores = scores_by_group(evaluation, set_name, metric)
        contrast, p_value = Contrast([group], [baseline]), group_p_value(comparisons)
        excess, margin = contrast.estimate(scores), contrast.margin(scores, two_sided=True)
        verdict = _verdict(abs(excess) > margin + EXACTNESS)
        seeds = f"{excess:+.2f} ± {margin:.2f} {metric} over seeds: {verdict} as to seeds"
        if math.isinf(margin):
            seeds = f"{metric} over seeds: fewer than two of them in common"
        yield (
            f"{set_name}: {group} against {baseline}, {seeds}, {_verdict(p_value < CHANCE)} as to sentences "
            f"(largest {shown_p_value(p_value)})."
        )


def shown_p_value(p_value: float) -> str:
    """Returns a p-value with its name, such as `p = 0.0440`, or `p < 0.0001` for very small values."""
    return f"p = {p_value:.4f}" if p_value >= LEAST_P else f"p < {LEAST_P}"


def _verdict(differs: bool) -> str:
    return "more than chance" if differs else "not told from chance"


def notes(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Yields explanations of the numbers: signatures, and how speed was measured."""
    scores = [found for one in evaluation["test_sets"].values() for found in _scores(one)]
    yield UNITS
    for metric in scores[0]:
        for signature in dict.fromkeys(found[metric]["signature"] for found in scores):
            yield f"{metric}: `{signature}`"
    comparisons = sum(len(one["comparisons"]) for one in evaluation["test_sets"].values())
    if comparisons > 1:
        expected = f"{comparisons * CHANCE:.1f} would be below {CHANCE} by chance"
        yield f"Each p is of its comparison alone; of {comparisons} between equals, {expected}."
    if any(one["groups"] for one in evaluation["test_sets"].values()):
        yield SEEDS
    if "COMET" not in scores[0]:
        yield NOT_COMPUTED
    if any(system["speed"] for system in evaluation["systems"].values()):
        made = evaluation["made_with"]
        yield MEASURED.format(threads=made["threads"], device=made["device"])


def as_markdown(evaluation: Mapping[str, Any]) -> str:
    """Returns the table, the findings and the notes as Markdown."""
    lists = [[f"- {' '.join(line.split())}" for line in lines] for lines in (findings(evaluation), notes(evaluation))]
    return "\n\n".join([markdown_table(*table(evaluation)), *("\n".join(lines) for lines in lists if lines)]) + "\n"


def write_evaluation(evaluation: Mapping[str, Any], folder: Path) -> None:
    """Writes `evaluation.md`, `evaluation.csv` and, last, `evaluation.json`."""
    for name, text in (("evaluation.md", as_markdown(evaluation)), ("evaluation.csv", as_csv(evaluation))):
        with whole_file(folder / name) as stream:
            stream.write(text.encode())
    write_json(folder / EVALUATION_NAME, evaluation)


def print_evaluation(evaluation: Mapping[str, Any]) -> None:
    """Prints the results. The table has only the most important columns."""
    print_table(*table(evaluation, brief=True))
    print(*findings(evaluation), *notes(evaluation), sep="\n")
