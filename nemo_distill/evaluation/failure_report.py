"""Counts the failures of an evaluation's systems, and presents them: a table for each test set, and what differs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from nemo_distill.console import console, markdown_table
from nemo_distill.evaluation.evaluation_record import FAILURES_NAME
from nemo_distill.evaluation.evaluation_sets import EvaluationSet
from nemo_distill.evaluation.systems import System, TextSystem
from nemo_distill.evaluation.translations import Texts
from nemo_distill.failures.kinds import TITLES
from nemo_distill.failures.profile import REVISION, TranslatedSet, profile
from nemo_distill.failures.robustness import Noise, noised
from nemo_distill.failures.settings import FailureSettings
from nemo_distill.metrics.significance import CHANCE, CONFIDENCE
from nemo_distill.storage.files import remove_leftovers, write_text
from nemo_distill.storage.ledger import Work, fingerprint
from nemo_distill.text.files import input_files

if TYPE_CHECKING:
    from nemo_distill.evaluation.evaluation_job import EvaluationJob

EXAMPLES = 5  # sentences in the report for each kind and system; all are in the record
SHOWN_LINES = 10  # numbers of sentences in a finding; all are in the record
NOTES = (
    f"Failures of every thousand sentences, with Wilson's interval at {CONFIDENCE:.0%}. A star: differs from a "
    f"system that it is compared with, by McNemar's exact test (p < {CHANCE} by Holm over the kinds).",
    "Sentences without a verdict, such as short ones for the language, are not counted.",
)


def write_failures(job: "EvaluationJob", settings: FailureSettings) -> None:
    """Writes `failures.json` and `failures.md`.

    Args:
        job: the evaluation, whose systems have translated the test sets.
        settings: which failures are counted.
    """
    remove_leftovers(job.folder / "failures")
    translators = [system for system in job.all_systems if not isinstance(system, TextSystem)]
    copies = {one.name: _noised_copies(job.texts, one, settings) for one in job.sets}
    every = [copy for of_set in copies.values() for copy in of_set.values()]
    for system in translators:
        job.texts.translate(system, every, job.settings.device)
    sets, texts = dict[str, TranslatedSet](), list[dict[str, str]]()
    for one in job.sets:
        noised_texts = {kind: job.texts.translated_set(copy, translators) for kind, copy in copies[one.name].items()}
        sets[one.name] = replace(
            job.texts.translated_set(one, job.all_systems),
            noised={kind: found.translations for kind, found in noised_texts.items()},
        )
        texts += job.texts.fingerprints(one, "src", *one.references, *_files_of(job.all_systems))
        for copy in copies[one.name].values():
            texts += job.texts.fingerprints(copy, *_files_of(translators))
    files = input_files([*settings.training_source, *settings.training_target, *settings.word_lists])
    depends = {
        "settings": asdict(settings),
        "files": [fingerprint(path) for path in files],
        "texts": texts,
        "baselines": job.settings.significance.baselines,
        "revision": REVISION,
    }

    def make() -> dict[str, Any]:
        console.info("counting failures")
        return {"test_sets": profile(sets, settings, job.folder / "failures", job.settings.significance.baselines)}

    found = Work(job.folder / FAILURES_NAME, depends).kept(make)["test_sets"]
    write_text(job.folder / "failures.md", failures_as_markdown(found, sets))
    console.info(f"failures are in '{job.folder / 'failures.md'}'")


def failures_as_markdown(found: Mapping[str, Any], sets: Mapping[str, TranslatedSet]) -> str:
    """Returns for each test set a table, the differences, and some sentences of each kind."""
    parts = ["# Failures", "\n".join(f"- {note}" for note in NOTES)]
    for name, one in found.items():
        parts += [f"## {name}", markdown_table(*failure_table(one))]
        parts += ["\n".join(f"- {said}" for said in failure_findings(one)) or "No difference is significant."]
        parts += list(_examples(one, sets[name]))
    return "\n\n".join(parts) + "\n"


def _examples(one: Mapping[str, Any], texts: TranslatedSet) -> Iterator[str]:
    for kind, profiled in one["kinds"].items():
        for system, counted in profiled.get("systems", {}).items():
            if hits := counted["hits"]:
                yield f"### {TITLES[kind]}: {system}, {len(hits)} of {counted['judged']} sentences"
                yield "\n\n".join(_example(hit, texts, system) for hit in hits[:EXAMPLES])


def _example(hit: Mapping[str, Any], texts: TranslatedSet, system: str) -> str:
    place = hit["line"] - 1
    lines = [
        f"sentence {hit['line']}: {'; '.join(hit['found'])}",
        f"source:      {texts.sources[place]}",
        f"translation: {texts.translations[system][place]}",
        f"reference:   {texts.references[place]}",
    ]
    return "\n".join(f"    {line}" for line in lines)


def _noised_copies(texts: Texts, one: EvaluationSet, settings: FailureSettings) -> dict[Noise, EvaluationSet]:
    """Returns copies of a test set with noise, and writes them."""
    plain = texts.translated_set(one)
    return {
        kind: texts.new_set(
            f"{one.name}+{kind}", noised(plain.sources, kind, settings.noise_seed), plain.references, one.language
        )
        for kind in settings.noise
    }


def _files_of(systems: Iterable[System]) -> list[str]:
    return [f"{system.name}.txt" for system in systems]


def failure_table(one: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns the columns and cells of a test set's table: a row per kind, a column per system."""
    systems = list(dict.fromkeys(system for kind in one["kinds"].values() for system in kind.get("systems", ())))
    stars = {(found["kind"], found["system"]) for found in significant(one)}
    rows = []
    for kind, found in one["kinds"].items():
        cells = [_cell(found, system) + (" *" if (kind, system) in stars else "") for system in systems]
        rows.append([TITLES[kind], *cells])
    return ["failures", *systems], rows


def failure_findings(one: Mapping[str, Any]) -> Iterator[str]:
    """Yields a sentence for each significant difference, and one with the kinds that do not apply."""
    for found in significant(one):
        mine, theirs = found["only_system"], found["only_baseline"]
        yield (
            f"{TITLES[found['kind']]}: only {found['system']} in {len(mine)} sentences{_numbers(mine)}, only "
            f"{found['baseline']} in {len(theirs)}{_numbers(theirs)}; p = {found['p_value_holm']:.2g} by Holm."
        )
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
