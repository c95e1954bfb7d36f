"""The table that a comparison ends with: on the screen, as Markdown and as JSON."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nemo_distill.evaluation.tables import markdown_table, print_table
from nemo_distill.storage.files import whole_file


@dataclass(frozen=True)
class Result:
    """One trained model, scored.

    Args:
        group: models that differ by their seed alone share a group.
        seed: of weights and data order.
        distilled: whether it had a teacher.
        parameters: all of the model's, shared ones counted once.
        bleu: corpus BLEU, 0 to 100.
        signature: sacrebleu's.
        training_seconds: wall time of the whole training command.
        translation_seconds: wall time of translating the test set.
    """

    group: str
    seed: int
    distilled: bool
    parameters: int
    bleu: float
    signature: str
    training_seconds: float
    translation_seconds: float


COLUMNS = ("model", "seed", "parameters", "ratio", "sacreBLEU", "training s", "test s")


def table_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Returns the cells of the table, a row a model; the compression ratio is relative to the first, the teacher."""
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
        )
        for result in results
    ]


def verdicts(results: Sequence[Result]) -> list[str]:
    """Says by how much each method beats the baseline of its students' size, seed by seed, or that it does not.

    A baseline is a model trained without a teacher; a method without a baseline of its size and seed gets no sentence.
    """
    baselines = {(result.parameters, result.seed): result.bleu for result in results[1:] if not result.distilled}
    gains: dict[str, dict[int, float]] = {}
    for result in results:
        if result.distilled and (result.parameters, result.seed) in baselines:
            gain = result.bleu - baselines[result.parameters, result.seed]
            gains.setdefault(result.group, {})[result.seed] = gain
    return [_verdict(group, by_seed) for group, by_seed in gains.items()]


def _verdict(group: str, gains: dict[int, float]) -> str:
    mean = statistics.mean(gains.values())
    listed = ", ".join(f"{gain:+.2f} (seed {seed})" for seed, gain in gains.items())
    if min(gains.values()) > 0:
        claim = "beats the baseline of its size with every seed"
    elif mean > 0:
        claim = "beats the baseline of its size on average, but NOT with every seed"
    else:
        claim = "did NOT beat the baseline of its size"
    return f"{group} {claim}: {mean:+.2f} BLEU on average; {listed}."


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
