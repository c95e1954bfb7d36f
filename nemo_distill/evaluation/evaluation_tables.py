"""Presents the results of an evaluation: tables, the verdict, and which differences are significant."""

import csv
import io
import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_distill.console import markdown_table, print_table
from nemo_distill.evaluation.comet import NOT_COMPUTED
from nemo_distill.evaluation.evaluation_record import DISTILLED, EVALUATION_NAME, TEXT_ONLY
from nemo_distill.evaluation.gains import gain_sentences, scores_by_group
from nemo_distill.evaluation.likeness import (
    compared_with,
    factor,
    factor_sentence,
    first_of,
    group_of,
    groups_of,
    kind_in_words,
    members,
    trained_otherwise,
    unfair_comparison,
)
from nemo_distill.evaluation.speed import MEGABYTE
from nemo_distill.evaluation.verdict import shown_share, verdict_sentences
from nemo_distill.metrics.contrasts import CONFIDENCE, EXACTNESS, Contrast
from nemo_distill.metrics.scores import FEWER_IS_BETTER
from nemo_distill.metrics.significance import CHANCE, RESAMPLES, both_ways, group_p_value
from nemo_distill.storage.files import whole_file, write_json

LEAST_P = 0.0001  # smaller p-values are printed as "p < 0.0001"
NOT_MEASURED = "not measured"
DIGITS = {"COMET": 4}  # behind the point; 2 of all others
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
GAP, OTHERWISE = "gap closed", "trained unlike"
BRIEF = ("parameters", "MB", "smaller", "sentences/s", "faster", "ms alone, median", OTHERWISE)
UNITS = "BLEU and chrF range from 0 to 100; more is better. TER is edits per 100 reference words; less is better."
SEEDS = f"""\
A mean over seeds is followed by ± and the standard deviation. A difference between groups of seeds is taken seed by
seed, and is followed by ± and the {CONFIDENCE:.0%} confidence interval by Student's t. A p-value is about the choice
of sentences, for one seed. For a group it is the largest of its seeds, or 1 if the seeds differ in direction."""
GAPS = f"""\
Gap closed is (student - baseline) / (teacher - baseline): at 0 % the student is as good as the baseline of its size,
at 100 % as good as the teacher. In brackets is the {CONFIDENCE:.0%} confidence interval: with several seeds, by
Student's t of the seeds' shares; with one seed, by paired bootstrap over the sentences ({RESAMPLES:,} resamples). It
is not given where the teacher is not better than the baseline by more than chance."""
NO_ROLES = """\
Gap closed: not computed, because no system has the role distilled. Say which systems are baselines and which are
distilled, such as '+models.student={model: student.nemo, role: distilled}'."""
ALIKE = """\
"Smaller" (MB) and "faster" (sentences/s) are relative to the first system, the teacher, in the same engine and
precision and with the same beam size. They are empty where the teacher did not run so. "Compression" is relative to
the teacher's parameters."""
MEASURED = """\
Sentences/s and tokens/s are for many sentences together; "ms alone" is for one sentence at a time. Each system ran in
a process of its own, with {threads} thread(s) on {device}, and the systems took turns. Of several seeds, the first was
timed. CTranslate2 translates one batch per thread, so one sentence alone uses one thread. Tokens are counted as BLEU
counts them. "Peak MB" is the main memory of the process, including libraries. MB are megabytes on disk."""


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
    for name, system in systems.items():
        group, training = group_of(systems, name), system.get("training") or {}
        row = {"system": name, "group": group, "seed": system.get("seed"), "runs in": kind_in_words(systems, group)}
        for set_name, one in sets.items():
            row |= {f"{set_name} {metric}": score["value"] for metric, score in one["scores"][name].items()}
            closed = ((one.get("gaps") or {}).get(group) or {}).get("closed") or {}
            row[f"{set_name} {GAP}"] = closed.get("value")
        keys = ("parameters", "parameters_without_embeddings", "bytes", "compression")
        row |= {key: system.get(key) for key in keys}
        against = compared_with(systems, group)
        alike = against.group if against and against.alike else None
        row["smaller"] = factor(systems, group, alike, "bytes") if alike else None
        row["faster"] = factor(systems, group, alike, "sentences_per_second") if alike else None
        row |= {key: (system.get("speed") or {}).get(key) for key in SPEED_COLUMNS}
        row |= {key: training.get(key.removeprefix("training_")) for key in TRAINING_COLUMNS}
        rows.append(
            row | {"label_smoothing": system.get("label_smoothing"), OTHERWISE: trained_otherwise(systems, group)}
        )
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
    """Returns the columns and cells of the table of quality, size and speed, rounded. Empty columns are omitted."""
    return _filled([_cells(evaluation, row) for row in as_rows(evaluation)])


def brief_table(evaluation: Mapping[str, Any]) -> Cells:
    """Returns a table with a row per group, one score per test set, and columns that fit on a screen."""
    systems, sets = evaluation["systems"], evaluation["test_sets"]
    shown = [
        column for name, one in sets.items() for column in (f"{name} {_metrics(one)[0]}", _gap_column(sets, name))
    ]
    rows: dict[str, dict[str, str]] = {}
    for row in as_rows(evaluation):
        group, cells = row["group"], _cells(evaluation, row)
        kept = {"system": group, **{key: cells[key] for key in ("runs in", *shown, *BRIEF)}}
        rows.setdefault(group, kept)
    for name, one in sets.items():
        for group, spread in one["groups"].items():
            metric = _metrics(one)[0]
            rows[group][f"{name} {metric}"] = _spread(metric, spread[metric])
    if any(one["groups"] for one in sets.values()):
        rows = {
            group: {"system": group, "seeds": str(len(members(systems, group))), **row} for group, row in rows.items()
        }
    return _filled(list(rows.values()))


def _spread(metric: str, spread: Mapping[str, float]) -> str:
    digits = DIGITS.get(metric, 2)
    return f"{spread['mean']:.{digits}f} ± {spread['standard_deviation']:.{digits}f}"


def cost_table(evaluation: Mapping[str, Any]) -> Cells | None:
    """Returns the columns and cells of the table of what the trainings took, with a row per model; None if nothing is
    known.
    """
    trained = {
        name
        for name, system in evaluation["systems"].items()
        if system["engine"] != TEXT_ONLY and not system.get("same_model_as")
    }
    found = [
        {
            "system": row["system"],
            **{
                words: shown_seconds(row[key]) if key.endswith("seconds") else _number(row[key], 0)
                for key, words in TRAINING_COLUMNS.items()
            },
            "label smoothing": "" if row["label_smoothing"] is None else f"{row['label_smoothing']:g}",
        }
        for row in as_rows(evaluation)
        if row["system"] in trained
    ]
    if not any(any(list(row.values())[1:]) for row in found):
        return None
    return _filled(found)


def _filled(rows: Sequence[Mapping[str, str]]) -> Cells:
    """Returns those columns that have a value in any row, and the cells in them."""
    columns = [column for column in rows[0] if any(row[column] not in ("", NOT_MEASURED) for row in rows)]
    return columns, [[row[column] for column in columns] for row in rows]


def _scores(one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(one["scores"].values())


def _metrics(one: Mapping[str, Any]) -> list[str]:
    return list(_scores(one)[0])


def _gap_column(sets: Collection[str], set_name: str) -> str:
    return GAP if len(sets) == 1 else f"{set_name} {GAP}"


def _cells(evaluation: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, str]:
    unknown = NOT_MEASURED if evaluation["systems"][row["system"]]["engine"] == TEXT_ONLY else ""
    cells = {"system": row["system"], "runs in": row["runs in"]}
    for name, one in evaluation["test_sets"].items():
        for metric in one["scores"][row["system"]]:
            cells[f"{name} {metric}"] = _number(row[f"{name} {metric}"], DIGITS.get(metric, 2))
        gap = (one.get("gaps") or {}).get(row["group"])
        cells[_gap_column(evaluation["test_sets"], name)] = shown_gap(gap) if gap else ""
    cells |= {
        "parameters": _number(row["parameters"], 0) or unknown,
        "without embeddings": _number(row["parameters_without_embeddings"], 0),
        "compression": _factor(row["compression"]),
        "MB": _number(row["bytes"] and row["bytes"] / MEGABYTE, 1) or unknown,
        "smaller": _factor(row["smaller"]),
        "sentences/s": _number(row["sentences_per_second"], 1) or unknown,
        "faster": _factor(row["faster"]),
    }
    cells |= {words: _number(row[key], 1) or unknown for key, words in SPEED_COLUMNS.items()}
    return cells | {OTHERWISE: row[OTHERWISE]}


def shown_gap(gap: Mapping[str, Any]) -> str:
    """Returns the share of a gap that is closed, with its confidence interval, or that it is not given."""
    return shown_share(gap["closed"]) if gap["closed"] else "not given"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _factor(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}x"


def shown_seconds(seconds: float | None) -> str:
    """Returns a duration as hours, minutes and seconds; "" if it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def findings(evaluation: Mapping[str, Any], brief: bool = False) -> Iterator[str]:
    """Yields what distilled groups gain over the baselines of their size, which share of the gap they close, how large
    each difference is and whether it may be chance, the spread of groups, and ratios of what does not run alike.

    Args:
        evaluation: the content of `evaluation.json`.
        brief: of groups with several seeds, only how they differ from others, and exports only from what was exported.
    """
    systems = evaluation["systems"]
    for set_name, one in evaluation["test_sets"].items():
        said: list[str] = []
        for metric in [metric for metric in _metrics(one) if metric not in FEWER_IS_BETTER][:1]:
            said += gain_sentences(evaluation, set_name, metric)
        said += gap_sentences(evaluation, set_name)
        for found in one["comparisons"]:
            groups = [group_of(systems, found[side]) for side in ("system", "baseline")]
            if not brief or (not one["groups"].keys() & set(groups) and _is_of_models(systems, *groups)):
                said.append(_compared(evaluation, found))
        for group, spread in one["groups"].items():
            if not brief:
                said += [
                    f"{group} has {_spread(metric, spread[metric])} {metric} over {spread['systems']} seeds."
                    for metric in _metrics(one)
                ]
            said += _group_findings(evaluation, set_name, group, brief)
        yield from (f"{set_name}: {sentence}" for sentence in said)
    for group in groups_of(systems):
        if (against := compared_with(systems, group)) and not against.alike:
            yield from filter(None, [factor_sentence(systems, group, against)])


def _is_of_models(systems: Mapping[str, Any], group: str, other: str) -> bool:
    """False for the comparison of an export with anything but what was exported."""
    origins = {first_of(systems, one).get("same_model_as") for one in (group, other)}
    return origins == {None} or bool(origins & {*members(systems, group).values(), *members(systems, other).values()})


def gap_sentences(evaluation: Mapping[str, Any], set_name: str) -> Iterator[str]:
    """Says which share of the gap to the teacher each distilled group closes, or why that is not given.

    The share of an export is in the table.
    """
    for group, gap in (evaluation["test_sets"][set_name].get("gaps") or {}).items():
        if first_of(evaluation["systems"], group).get("same_model_as"):
            continue
        if gap["closed"]:
            over = f"over {gap['closed']['seeds']} seeds" if gap["closed"]["over"] == "seeds" else "over sentences"
            yield (
                f"{group} closes {shown_share(gap['closed'])}, {over}, of the {gap['metric']} gap between "
                f"{gap['baseline']} and {gap['teacher']}."
            )
        else:
            yield f"The gap that {group} closes is not given: {gap['reason']}."


def _compared(evaluation: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    test = found["test"].replace("_", " ")
    systems = evaluation["systems"]
    unfair = unfair_comparison(systems, *(group_of(systems, found[side]) for side in ("system", "baseline")))
    return (
        f"{found['system']} has {found['difference']:+.2f} {found['metric']} against {found['baseline']}, "
        f"{_verdict(found['p_value'] < CHANCE)} ({shown_p_value(found['p_value'])}, {test} of {found['samples']:,})"
        f"{_reserved(unfair)}."
    )


def _reserved(unfair: str | None) -> str:
    """Returns what a sentence about two models of one size adds if they were trained differently."""
    return f"; they were trained differently ({unfair}), so this says nothing about the methods" if unfair else ""


def _group_findings(evaluation: Mapping[str, Any], set_name: str, group: str, brief: bool) -> Iterator[str]:
    """Yields a sentence for each comparison of a group: the difference over seeds, and the largest p-value."""
    one, systems = evaluation["test_sets"][set_name], evaluation["systems"]
    compared: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    leading: dict[frozenset[str], str] = {}  # of two groups with several seeds, that of the first comparison
    for found in both_ways(one["comparisons"]):
        mine, theirs = (group_of(systems, found[side]) for side in ("system", "baseline"))
        if theirs in one["groups"] and leading.setdefault(frozenset((mine, theirs)), mine) != mine:
            continue
        if mine == group != theirs and (not brief or _is_of_models(systems, mine, theirs)):
            compared.setdefault((theirs, found["metric"]), []).append(found)
    for (baseline, metric), comparisons in compared.items():
        scores = scores_by_group(evaluation, set_name, metric)
        contrast, p_value = Contrast([group], [baseline]), group_p_value(comparisons)
        excess, margin = contrast.estimate(scores), contrast.margin(scores, two_sided=True)
        seeds = f"{excess:+.2f} ± {margin:.2f} {metric} over seeds, {_verdict(abs(excess) > margin + EXACTNESS)}"
        if math.isinf(margin):
            seeds = f"{metric} over seeds: fewer than two of them in common"
        yield (
            f"{group} against {baseline}: {seeds}; over sentences, {_verdict(p_value < CHANCE)} "
            f"(largest {shown_p_value(p_value)}){_reserved(unfair_comparison(systems, group, baseline))}."
        )


def shown_p_value(p_value: float) -> str:
    """Returns a p-value with its name, such as `p = 0.0440`, or `p < 0.0001` for very small values."""
    return f"p = {p_value:.4f}" if p_value >= LEAST_P else f"p < {LEAST_P}"


def _verdict(differs: bool) -> str:
    return "more than chance" if differs else "not more than chance"


def notes(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Yields explanations of the numbers: signatures, and how speed was measured."""
    systems, sets = evaluation["systems"], evaluation["test_sets"].values()
    scores = [found for one in sets for found in _scores(one)]
    if any(one.get("gaps") for one in sets):
        yield GAPS
    elif not any(system.get("role") == DISTILLED for system in systems.values()):
        yield NO_ROLES
    if any(compared_with(systems, group) for group in groups_of(systems)[1:]):
        yield ALIKE
    yield from evaluation.get("notes") or ()
    yield UNITS
    for metric in scores[0]:
        for signature in dict.fromkeys(found[metric]["signature"] for found in scores):
            yield f"{metric}: `{signature}`"
    comparisons = sum(len(one["comparisons"]) for one in sets)
    if comparisons > 1:
        expected = f"{comparisons * CHANCE:.1f} would have p < {CHANCE}"
        yield f"Each p-value is for one comparison. Of {comparisons} comparisons of equal systems, {expected}."
    if any(one["groups"] for one in sets):
        yield SEEDS
    if "COMET" not in scores[0]:
        yield NOT_COMPUTED
    if any(system["speed"] for system in systems.values()):
        made = evaluation["made_with"]
        yield MEASURED.format(threads=made["threads"], device=made["device"])


def as_markdown(evaluation: Mapping[str, Any]) -> str:
    """Returns the verdict, the tables, the findings and the notes as Markdown."""
    costs = cost_table(evaluation)
    tables = [markdown_table(*table(evaluation)), *([markdown_table(*costs)] if costs else [])]
    lists = [[f"- {' '.join(line.split())}" for line in lines] for lines in (findings(evaluation), notes(evaluation))]
    said = " ".join(verdict_sentences(evaluation))
    return "\n\n".join([*filter(None, [said]), *tables, *("\n".join(lines) for lines in lists if lines)]) + "\n"


def write_evaluation(evaluation: Mapping[str, Any], folder: Path) -> None:
    """Writes `evaluation.md`, `evaluation.csv` and, last, `evaluation.json`."""
    for name, text in (("evaluation.md", as_markdown(evaluation)), ("evaluation.csv", as_csv(evaluation))):
        with whole_file(folder / name) as stream:
            stream.write(text.encode())
    write_json(folder / EVALUATION_NAME, evaluation)


def print_evaluation(evaluation: Mapping[str, Any]) -> None:
    """Prints the most important results, the verdict last."""
    print_table(*brief_table(evaluation))
    if costs := cost_table(evaluation):
        print_table(*costs)
    lines = [*findings(evaluation, brief=True), "", *notes(evaluation), "", *verdict_sentences(evaluation)]
    print(*(" ".join(line.split()) for line in lines), sep="\n")
