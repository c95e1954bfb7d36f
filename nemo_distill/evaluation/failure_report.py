"""Counts the failures of an evaluation's systems, and presents them: a table for each test set, and what differs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from nemo_distill.console import console, markdown_table
from nemo_distill.evaluation.evaluation_record import FAILURES_NAME
from nemo_distill.evaluation.evaluation_sets import EvaluationSet
from nemo_distill.evaluation.systems import System, TextSystem
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

Copies = Mapping[Noise, EvaluationSet]  # of a test set, with noise
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
    copies = _noised_copies(job, settings)
    sets = {one.name: _translated(job, one, copies[one.name]) for one in job.sets}
    files = input_files([*settings.training_source, *settings.training_target, *settings.word_lists])
    depends = {
        "settings": asdict(settings),
        "files": [fingerprint(path) for path in files],
        "texts": [text for one in job.sets for text in _texts(job, one, copies[one.name].values())],
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


def _translated(job: "EvaluationJob", one: EvaluationSet, copies: Copies) -> TranslatedSet:
    translators = _translators(job)
    return replace(
        job.texts.translated_set(one, job.all_systems),
        noised={kind: job.texts.translated_set(copy, translators).translations for kind, copy in copies.items()},
    )


def _noised_copies(job: "EvaluationJob", settings: FailureSettings) -> dict[str, Copies]:
    """Makes noised copies of each test set, and has all systems translate them."""
    copies: dict[str, Copies] = {}
    for one in job.sets:
        texts = job.texts.translated_set(one)
        copies[one.name] = {
            kind: job.texts.new_set(
                f"{one.name}+{kind}", noised(texts.sources, kind, settings.noise_seed), texts.references, one.language
            )
            for kind in settings.noise
        }
    every = [copy for of_set in copies.values() for copy in of_set.values()]
    for system in _translators(job):
        job.texts.translate(system, every, job.settings.device)
    return copies


def _translators(job: "EvaluationJob") -> list[System]:
    """Returns the systems that can translate another text: all but those of which only translations are there."""
    return [system for system in job.all_systems if not isinstance(system, TextSystem)]


def _texts(job: "EvaluationJob", one: EvaluationSet, copies: Iterable[EvaluationSet]) -> Iterator[dict[str, str]]:
    """Yields the names and SHA-256 of the files that the failures on a test set are found in."""
    translated = [f"{system.name}.txt" for system in job.all_systems]
    yield from job.texts.fingerprints(one, "src", *one.references, *translated)
    for copy in copies:
        yield from job.texts.fingerprints(copy, *(f"{system.name}.txt" for system in _translators(job)))


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
