"""The data of the sentence reader: source, reference, translations, sentence scores and failures."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.progress import track
from sacrebleu.metrics import BLEU, CHRF

from nemo_distill.failures.kinds import TITLES
from nemo_distill.metrics.scores import signed_tokenization
from nemo_distill.report.evaluation import Evaluation

METRICS = ("BLEU", "chrF")  # the page can sort by these


def reader_data(evaluation: Evaluation, most: int) -> dict[str, Any]:
    """Returns the data of the sentence reader, as JSON values.

    Scores are sacrebleu's sentence BLEU, which uses only n-grams that fit into the sentence (`effective_order`), and
    sentence chrF. Of several references, the first is shown; the scores use all.

    Args:
        evaluation: the evaluation whose texts are read.
        most: number of sentences to keep for each student and metric. The sentences with the largest deficit against
            the first system are kept, and the first ones with each kind of failure.

    Returns:
        `teacher` and `student`, the systems that are shown first; `kinds`, the titles of failures; `sets`, for each
        test set its sentences in columns. Of each kind of failure a system has `total`, the number of sentences, and
        `found`, the evidence of those that are kept, by place in the columns.

    Raises:
        DataError: if a text is missing or has the wrong number of lines.
    """
    sets = {name: _sentences(evaluation, name, most) for name in evaluation.test_sets}
    return {"teacher": evaluation.teacher, "student": evaluation.shipped, "kinds": TITLES, "sets": sets}


def _sentences(evaluation: Evaluation, test_set: str, most: int) -> dict[str, Any]:
    source, references = evaluation.lines(test_set, "src"), evaluation.references(test_set)
    scores = evaluation.test_sets[test_set]["scores"]
    systems = {
        name: _scored(evaluation.lines(test_set, f"{name}.txt"), references, tokenization(of_system))
        for name, of_system in track(scores.items(), f"scoring sentences of {test_set}", transient=True)
    }
    failures = {name: _failures(evaluation, test_set, name) for name in systems}
    failing = (line - 1 for kinds in failures.values() for hits in kinds.values() for line in list(hits)[:most])
    kept = sorted({*_worst(systems, evaluation.teacher, most), *failing})
    return {
        "numbers": [index + 1 for index in kept],
        "source": [source[index] for index in kept],
        "reference": [references[0][index] for index in kept],
        "systems": {
            name: {key: [values[index] for index in kept] for key, values in columns.items()}
            | {"failures": {kind: _kept_hits(hits, kept) for kind, hits in failures[name].items()}}
            for name, columns in systems.items()
        },
    }


def _failures(evaluation: Evaluation, test_set: str, system: str) -> dict[str, dict[int, list[str]]]:
    """Returns the evidence of each kind of failure that the system has, by number of the sentence, from 1."""
    kinds = evaluation.failures[test_set]["kinds"] if evaluation.failures else {}
    counts = {kind: part["systems"][system] for kind, part in kinds.items() if system in part.get("systems", {})}
    return {
        kind: {hit["line"]: hit["found"] for hit in count["hits"]} for kind, count in counts.items() if count["hits"]
    }


def _kept_hits(hits: Mapping[int, Sequence[str]], kept: Sequence[int]) -> dict[str, Any]:
    found = {place: hits[index + 1] for place, index in enumerate(kept) if index + 1 in hits}
    return {"total": len(hits), "found": found}


def tokenization(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the tokenization in the signature of a system's corpus BLEU; `13a` if there is none."""
    return signed_tokenization((scores.get("BLEU") or {}).get("signature") or "")


def _scored(lines: Sequence[str], references: Sequence[Sequence[str]], tokenize: str) -> dict[str, list[Any]]:
    metrics = dict(zip(METRICS, (BLEU(tokenize=tokenize, effective_order=True), CHRF())))
    scores = {
        name: [
            round(metric.sentence_score(line, [first, *filter(None, more)]).score, 1)
            for line, first, *more in zip(lines, *references)
        ]
        for name, metric in metrics.items()
    }
    return {"text": list(lines), **scores}


def _worst(systems: Mapping[str, Mapping[str, Sequence[Any]]], teacher: str, most: int) -> set[int]:
    """Returns the indices of the lines with the largest deficit of some student in some metric."""
    kept: set[int] = set()
    for name in [name for name in systems if name != teacher] or systems:
        for metric in METRICS:
            deficits = [theirs - mine for theirs, mine in zip(systems[teacher][metric], systems[name][metric])]
            kept.update(sorted(range(len(deficits)), key=deficits.__getitem__, reverse=True)[:most])
    return kept
