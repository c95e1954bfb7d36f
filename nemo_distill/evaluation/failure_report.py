"""Counts the failures of an evaluation's systems, and writes them beside the results as JSON and Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_distill.console import console, markdown_table
from nemo_distill.evaluation.evaluation_record import FAILURES_NAME
from nemo_distill.evaluation.evaluation_sets import EvaluationSet
from nemo_distill.evaluation.systems import System, TextSystem
from nemo_distill.failures.failure_table import NOTES, failure_findings, failure_table
from nemo_distill.failures.kinds import TITLES
from nemo_distill.failures.profile import REVISION, TranslatedSet, profile
from nemo_distill.failures.robustness import noised
from nemo_distill.failures.settings import FailureSettings
from nemo_distill.storage.files import remove_leftovers, whole_file
from nemo_distill.storage.ledger import Work, fingerprint
from nemo_distill.text.lines import expand_paths

if TYPE_CHECKING:
    from nemo_distill.evaluation.evaluation_job import EvaluationJob

EXAMPLES = 5  # sentences in the report for each kind and system; all are in the record


def write_failures(job: "EvaluationJob", settings: FailureSettings) -> dict[str, Any]:
    """Writes `failures.json` and `failures.md`, and returns the profile of each test set.

    Args:
        job: the evaluation, whose systems have translated the test sets.
        settings: which failures are counted.
    """
    remove_leftovers(job.folder / "failures")
    noise = _translate_noised(job, settings)
    sets = {one.name: _translated(job, one, noise) for one in job.sets}
    files = [*settings.training_source, *settings.training_target, *settings.word_lists]
    depends = {
        "settings": asdict(settings),
        "files": [fingerprint(path) for name in files for path in expand_paths(name)],
        "texts": [fingerprint(path) for path in _texts(job, noise)],
        "baselines": job.settings.significance.baselines,
        "revision": REVISION,
    }

    def make() -> dict[str, Any]:
        console.info("counting failures")
        return {"test_sets": profile(sets, settings, job.folder / "failures", job.settings.significance.baselines)}

    found = Work(job.folder / FAILURES_NAME, depends).kept(make)["test_sets"]
    with whole_file(job.folder / "failures.md") as stream:
        stream.write(failures_as_markdown(found, sets).encode())
    console.info(f"failures are in '{job.folder / 'failures.md'}'")
    return found


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


def _translated(job: "EvaluationJob", one: EvaluationSet, noise: Mapping[str, list[EvaluationSet]]) -> TranslatedSet:
    def by_system(of_set: EvaluationSet, systems: Sequence[System]) -> dict[str, list[str]]:
        return {system.name: job.texts.read(of_set, f"{system.name}.txt") for system in systems}

    translators = _translators(job)
    copies = {
        kind: by_system(copy, translators)
        for kind, found in noise.items()
        for copy in found
        if copy.name == f"{one.name}+{kind}"
    }
    sources, references = (job.texts.read(one, side) for side in ("src", "ref"))
    more = job.texts.more_references(one)
    return TranslatedSet(sources, references, by_system(one, job.all_systems), copies, more)


def _translate_noised(job: "EvaluationJob", settings: FailureSettings) -> dict[str, list[EvaluationSet]]:
    """Makes noised copies of the test sets, and has all systems translate them."""
    copies: dict[str, list[EvaluationSet]] = {}
    for kind in settings.noise:
        copies[kind] = [_noised_copy(job, one, kind, settings.noise_seed) for one in job.sets]
        for copy in copies[kind]:
            job.texts.write_set(copy)
        for system in _translators(job):
            job.texts.translate(system, copies[kind], job.settings.device)
    return copies


def _noised_copy(job: "EvaluationJob", one: EvaluationSet, kind: Any, seed: int) -> EvaluationSet:
    path = job.folder / "failures" / f"{one.name}+{kind}.src"
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as stream:
        stream.writelines(f"{line}\n".encode() for line in noised(job.texts.read(one, "src"), kind, seed))
    return EvaluationSet(f"{one.name}+{kind}", path, job.texts.folder / f"{one.name}.ref", one.language)


def _translators(job: "EvaluationJob") -> list[System]:
    """Returns the systems that can translate another text: all but those of which only translations are there."""
    return [system for system in job.all_systems if not isinstance(system, TextSystem)]


def _texts(job: "EvaluationJob", noise: Mapping[str, list[EvaluationSet]]) -> Iterator[Path]:
    for one in job.sets:
        endings = ("src", *one.references, *(f"{system.name}.txt" for system in job.all_systems))
        yield from (job.texts.folder / f"{one.name}.{ending}" for ending in endings)
    for copy in [copy for copies in noise.values() for copy in copies]:
        yield from (job.texts.folder / f"{copy.name}.{system.name}.txt" for system in _translators(job))
