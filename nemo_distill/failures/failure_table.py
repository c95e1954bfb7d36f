"""Presents a profile of failures: a table for each test set, the differences that are significant, and notes."""

from collections.abc import Iterator, Mapping
from typing import Any

from nemo_distill.failures.kinds import TITLES
from nemo_distill.metrics.significance import CHANCE, CONFIDENCE

SHOWN_LINES = 10  # numbers of sentences in a finding; all are in the record
NOTES = (
    f"Failures of every thousand sentences, with Wilson's interval at {CONFIDENCE:.0%}. A star: differs from a "
    f"system that it is compared with, by McNemar's exact test (p < {CHANCE} by Holm over the kinds).",
    "Sentences without a verdict, such as short ones for the language, are not counted.",
)


def failure_table(one: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns the columns and cells of a test set's table: a row per kind, a column per system."""
    systems = list(dict.fromkeys(system for kind in one["kinds"].values() for system in kind.get("systems", ())))
    stars = {(found["kind"], found["system"]) for found in significant(one)}
    rows = []
    for kind, found in one["kinds"].items():
        cells = [_cell(found, system) + (" *" if (kind, system) in stars else "") for system in systems]
        rows.append([TITLES[kind], *cells])
    return ["failures", *systems], rows


def failure_findings(one: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each significant difference, and one with the kinds that do not apply."""
    return [*_differences(one), *_not_applicable(one)]


def _differences(one: Mapping[str, Any]) -> Iterator[str]:
    for found in significant(one):
        mine, theirs = found["only_system"], found["only_baseline"]
        yield (
            f"{TITLES[found['kind']]}: only {found['system']} in {len(mine)} sentences{_numbers(mine)}, only "
            f"{found['baseline']} in {len(theirs)}{_numbers(theirs)}; p = {found['p_value_holm']:.2g} by Holm."
        )


def _not_applicable(one: Mapping[str, Any]) -> Iterator[str]:
    reasons = {kind: found["not_applicable"] for kind, found in one["kinds"].items() if "not_applicable" in found}
    if reasons:
        yield f"Not applicable: {', '.join(f'{TITLES[kind]} ({reason})' for kind, reason in reasons.items())}."


def significant(one: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the comparisons of a test set whose difference is significant."""
    yield from (found for found in one["comparisons"] if found["p_value_holm"] < CHANCE)


def _cell(found: Mapping[str, Any], system: str) -> str:
    if "not_applicable" in found:
        return "not applicable"
    rate = found["systems"][system]["rate"]
    return f"{rate['per_thousand']:.1f} ({rate['low']:.1f} to {rate['high']:.1f})" if rate else "no verdict"


def _numbers(lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:SHOWN_LINES])) + (", ..." if len(lines) > SHOWN_LINES else "")
    return f" ({shown})" if lines else ""
