"""Presents an explanation: what to change first, and tables of what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.config.errors import DataError
from nemo_distill.console import markdown_table, print_list, print_table
from nemo_distill.evaluation.explanation import LEAST_SENTENCES, STUDENT, TEACHER
from nemo_distill.metrics.learning_curve import MORE_STEPS
from nemo_distill.metrics.significance import CONFIDENCE, RESAMPLES
from nemo_distill.storage.records import OPEN, read_json

EXPLANATION_NAME = "explanation.json"


class Estimate(TypedDict):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class PlaceRecord(TypedDict):
    """The gap in groups of sentences; without `gaps` and `part` if a group is too small."""

    sentences: dict[str, int]
    gaps: NotRequired[dict[str, Estimate]]
    part: NotRequired[Estimate]


@with_config(OPEN)
class ExplanationRecord(TypedDict):
    """The content of `explanation.json`."""

    settings: dict[str, Any]
    test_set: dict[str, Any]
    signature: str
    explained: str
    scores: dict[str, Estimate]
    gap: Estimate
    parts: dict[Literal["shortlist", "quantization", "search", "capacity", "generalisation"], Estimate]
    places: dict[Literal["far", "long", "rare"], PlaceRecord]
    recall: list[dict[str, Any]]
    sample: dict[str, Any]
    search_errors: dict[str, Any]
    losses: dict[str, dict[str, Estimate]]
    seeds: dict[str, Any] | None
    steps: dict[str, Any]
    notes: list[str]


class Part(NamedTuple):
    """What may cause a part of the gap.

    Args:
        title: its name in tables.
        advice: what makes it smaller.
        measured: how it is measured, for the table of parts.
    """

    title: str
    advice: str
    measured: str = ""


PARTS = {
    "shortlist": Part(
        "shortlist",
        "make the shortlist larger (shortlist.candidates, shortlist.common), or from more text",
        "the export with its shortlist, minus the export without",
    ),
    "quantization": Part(
        "quantization",
        "export with more exact weights (int16, float16)",
        "the export, minus the .nemo in float32",
    ),
    "search": Part(
        "search",
        "search with a wider beam, or train on the teacher's translations, which need less search",
        "the student's own beam, minus the wide beam",
    ),
    "capacity": Part(
        "capacity or too few steps",
        "train for more steps; if the loss falls no longer, take a larger student",
        "the share of the gap that is already there on its own training labels",
    ),
    "generalisation": Part(
        "generalisation",
        "train on more text: let the teacher translate monolingual text, or add noise or dropout",
        "the share of the gap that appears only on new text",
    ),
}
PLACES = {
    "far": Part("text far from the training text", "let the teacher translate text of the test set's domain"),
    "long": Part("long sentences", "train on more long sentences, also on joined ones"),
    "rare": Part("rare words", "train on text that has them, or take a tokenizer with fewer and smaller pieces"),
}
ADDITIVE = "These parts add up to the gap. A negative part is what the student loses there."
PLACED = (
    '"Part": by how much the gap is larger than without these sentences. Such parts overlap, so they do not add up. '
    f'"–": fewer than {LEAST_SENTENCES} sentences in a group. Near and far are divided at the median of the share of '
    "a source's runs of three words that the training sources have."
)
INTERVALS = (
    f"In brackets: the {CONFIDENCE:.0%} interval, by paired bootstrap over the sentences ({RESAMPLES:,} resamples). "
    "It says nothing about other seeds."
)
Cells = tuple[str, Sequence[str], list[list[str]]]  # caption, columns, and the cells of each row


def read_explanation(folder: Path) -> ExplanationRecord:
    """Returns the record of an explanation in its folder.

    Raises:
        DataError: if there is none, or another file of this name.
    """
    record = read_json(folder / EXPLANATION_NAME, ExplanationRecord)
    if record is None:
        raise DataError(f"'{folder}' holds no {EXPLANATION_NAME}; create it with 'nemo-distill explain'")
    return record


def what_to_change(record: Mapping[str, Any]) -> Iterator[str]:
    """Yields the gap, what to change first, in order, and what the evidence is too thin for."""
    metric, gap, sentences = record["settings"]["settings"]["metric"], record["gap"], record["test_set"]["sentences"]
    scores = record["scores"]
    yield (
        f"The student has {scores[record['explained']]['value']:.2f} {metric}, the teacher "
        f"{scores[TEACHER]['value']:.2f}: a difference of {shown(gap)} on {sentences:,} sentences."
    )
    if gap["high"] >= 0:
        yield (
            "The evidence is too thin: this difference may be chance, or the student is the better one. There is "
            "nothing to explain; more test sentences may show a gap."
        )
        return
    costly, thin = _sorted(record)
    for number, (part, found) in enumerate(costly, start=1):
        first = "First" if number == 1 else "Then"
        yield f"{first}, {part.title}, {shown(found)} {metric}: {part.advice}."
    if not costly:
        yield "No single part is larger than chance. A larger test set would tell them apart."
    if thin:
        listed = "; ".join(f"{part.title} {shown(found)}" for part, found in thin)
        yield f"Too thin to tell, because the interval holds 0: {listed}."


def _sorted(record: Mapping[str, Any]) -> tuple[list[tuple[Part, Estimate]], list[tuple[Part, Estimate]]]:
    """Returns the parts that cost more than chance, the largest first, and those that may be chance."""
    found = [(PARTS[name], part) for name, part in record["parts"].items()]
    found += [(PLACES[name], place["part"]) for name, place in record["places"].items() if "part" in place]
    costly = [(part, value) for part, value in found if value["high"] < 0]
    thin = [(part, value) for part, value in found if value["low"] < 0 <= value["high"]]
    return sorted(costly, key=lambda one: one[1]["value"]), thin


def explanation_tables(record: Mapping[str, Any]) -> Iterator[Cells]:
    """Yields the tables of what was measured."""
    metric = record["settings"]["settings"]["metric"]
    parts = [[PARTS[name].title, shown(part), PARTS[name].measured] for name, part in record["parts"].items()]
    total = ["student minus teacher", shown(record["gap"]), ""]
    yield "Parts of the gap", ("part", metric, "measured by"), [*parts, total]
    yield "Where the gap is", ("sentences", "number", f"gap, {metric}", "part"), list(_place_rows(record))
    yield (
        "Words of the references",
        ("times in the training targets", "words", "student says, %", "teacher says, %", "difference"),
        list(_recall_rows(record)),
    )
    yield "On training labels", ("", "on training labels", "on the test set"), list(_sample_rows(record))
    if seeds := record["seeds"]:
        rows = [[name, f"{score:.2f}"] for name, score in seeds["scores"].items()]
        yield "Seeds", ("student", metric), [*rows, ["mean minus teacher", shown(seeds["gap"])]]


def _place_rows(record: Mapping[str, Any]) -> Iterator[list[str]]:
    for place in record["places"].values():
        for number, (group, sentences) in enumerate(place["sentences"].items()):
            gap = shown(place["gaps"][group]) if "gaps" in place else "–"
            yield [group, f"{sentences:,}", gap, shown(place["part"]) if number == 1 and "part" in place else ""]


def _recall_rows(record: Mapping[str, Any]) -> Iterator[list[str]]:
    for one in record["recall"]:
        low, below = one["from"], one["below"]
        times = f"{low:,} or more" if below is None else "never" if below == 1 else f"{low:,} to {below - 1:,}"
        shares = [f"{one[name]:.1f}" for name in (record["explained"], TEACHER)]
        yield [times, f"{one['words']:,}", *shares, shown(one["difference"], 1)]


def _sample_rows(record: Mapping[str, Any]) -> Iterator[list[str]]:
    metric, sample, losses = record["settings"]["settings"]["metric"], record["sample"], record["losses"]
    yield [f"student minus teacher, {metric}", shown(sample["gap"]), shown(sample["test_gap"])]
    for name in (STUDENT, TEACHER, "difference"):
        if name in losses["labels"]:
            loss = "loss minus the teacher's" if name == "difference" else f"loss of the {name}"
            yield [
                f"{loss}, nats a token",
                *(shown(losses[place][name], 3, name == "difference") for place in ("labels", "test")),
            ]


def remarks(record: Mapping[str, Any]) -> Iterator[str]:
    """Yields what else was found, and how to read the tables."""
    sample, errors = record["sample"], record["search_errors"]
    yield ADDITIVE
    yield PLACED
    if sample["labels_of"] == "teacher":
        what = "the teacher's translations, so that table compares with its translations on the test set too"
    else:
        what = "other text than the teacher's translations"
    found = "" if record["settings"]["settings"]["labels"] else ", as the sample shows; labels=... says otherwise"
    yield f"Training labels: {sample['sentences']:,} of {sample['pairs']:,} pairs. They are {what}{found}."
    rate = errors["rate"]
    yield (
        f"Search errors: in {len(errors['lines']):,} of {errors['sentences']:,} sentences "
        f"({rate['per_thousand'] / 10:.1f} %, {rate['low'] / 10:.1f} to {rate['high'] / 10:.1f}) the student gives "
        "the teacher's translation a better score than its own, which its search has missed."
    )
    yield f"Steps: {_steps(record['steps'])}"
    if seeds := record["seeds"]:
        spread = f"{seeds['standard_deviation']:.2f}"
        yield f"Seeds: the students' scores have a standard deviation of {spread}. A smaller part may be the seed's."
    yield INTERVALS
    yield f"Signature: {record['signature']}"
    yield from record["notes"]


def _steps(steps: Mapping[str, Any]) -> str:
    if "problem" in steps:
        return f"what more of them would bring is not predicted by the scores while training: {steps['problem']}."
    gain = shown({"value": steps["gain"], "low": steps["low"], "high": steps["high"]})
    return (
        f"by the power law of the scores while training, {MORE_STEPS} times as many would bring {gain}, if the "
        "learning rate was not nearly 0 at the end."
    )


def explanation_as_markdown(record: Mapping[str, Any]) -> str:
    """Returns the page."""
    parts = ["# Why the gap", "\n".join(f"- {said}" for said in what_to_change(record))]
    for caption, columns, rows in explanation_tables(record):
        parts += [f"## {caption}", markdown_table(columns, rows)]
    return "\n\n".join([*parts, "\n".join(f"- {said}" for said in remarks(record))]) + "\n"


def print_explanation(record: Mapping[str, Any]) -> None:
    """Prints the page, without the notes that only explain it."""
    for caption, columns, rows in explanation_tables(record):
        print_table(columns, rows, caption)
    print_list("Why the gap:", what_to_change(record))


def shown(found: Estimate, digits: int = 2, signed: bool = True) -> str:
    """Returns a value with its interval."""
    form = f"{'+' if signed else ''}.{digits}f"
    value, low, high = (round(found[key], digits) + 0.0 for key in ("value", "low", "high"))  # no -0.00
    return f"{value:{form}} ({low:{form}} to {high:{form}})"
