"""Writes the results table of a comparison: on the screen, as Markdown and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from nemo_distill.evaluation.results import Gain, Result, gain_over_size
from nemo_distill.evaluation.tables import markdown_table, print_table
from nemo_distill.storage.files import whole_file

COLUMNS = ("model", "seed", "parameters", "ratio", "sacreBLEU", "training s", "test s", "label smoothing")


def table_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Returns the cells of the table, one row per model. Compression ratios are relative to the first, the teacher."""
    largest = results[0].parameters
    return [
        (
            result.group,
            str(result.seed),
            f"{result.parameters:,}",
            f"{largest / result.parameters:.1f}x",
            f"{result.bleu:.2f}",
            f"{result.training_seconds:.0f}",
            f"{result.translation_seconds:.1f}",
            "" if result.label_smoothing is None else f"{result.label_smoothing:g}",
        )
        for result in results
    ]


def verdicts(results: Sequence[Result]) -> list[str]:
    """Returns a sentence for each method: whether it beats the baseline of its size, and the differences by seed.

    With several baselines, the one with the smallest difference is used and named. Methods without a baseline of the
    same size and seed have no sentence.
    """
    gains = {group: gain_over_size(group, results) for group in dict.fromkeys(result.group for result in results)}
    return [_verdict(group, gain) for group, gain in gains.items() if gain]


def _verdict(group: str, gain: Gain) -> str:
    listed = ", ".join(f"{value:+.2f} (seed {seed})" for seed, value in gain.by_seed.items())
    named = "the baseline" if gain.baselines == 1 else f"{gain.baseline}, the best of {gain.baselines} baselines"
    if gain.worst > 0:
        claim = f"beats {named} of its size with every seed"
    elif gain.mean > 0:
        claim = f"beats {named} of its size on average, but NOT with every seed"
    else:
        claim = f"did NOT beat {named} of its size"
    return f"{group} {claim}: {gain.mean:+.2f} BLEU on average; {listed}."


def as_markdown(results: Sequence[Result]) -> str:
    """Returns the table, the verdicts and the signature as Markdown."""
    listed = "".join(f"- {sentence}\n" for sentence in verdicts(results))
    return (
        f"{markdown_table(COLUMNS, table_rows(results))}\n\n{listed}\nsacreBLEU signature: `{results[0].signature}`\n"
    )


def write_results(results: Sequence[Result], folder: Path) -> None:
    """Writes `results.md` and `results.json` into `folder`."""
    for name, text in (
        ("results.md", as_markdown(results)),
        ("results.json", json.dumps([asdict(result) for result in results], indent=2) + "\n"),
    ):
        with whole_file(folder / name) as stream:
            stream.write(text.encode())


def print_results(results: Sequence[Result]) -> None:
    """Prints the table, the signature and the verdicts."""
    print_table(COLUMNS, table_rows(results), "Test set")
    print(f"sacreBLEU signature: {results[0].signature}", *verdicts(results), sep="\n")
