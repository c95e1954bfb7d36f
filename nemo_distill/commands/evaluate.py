"""Evaluates systems on test sets: scores, comparisons, sizes and speeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_section
from nemo_distill.console import console
from nemo_distill.decoding.engines import device_problems
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.comet import CometSettings, comet_scores
from nemo_distill.evaluation.evaluation_sets import EvaluationSet, read_evaluation_sets, with_languages
from nemo_distill.evaluation.evaluation_tables import group_spreads, print_evaluation, write_evaluation
from nemo_distill.evaluation.speed import SpeedSettings, measure
from nemo_distill.evaluation.systems import System, read_systems
from nemo_distill.evaluation.translations import Texts, system_settings
from nemo_distill.metrics.scores import METRICS, Score, corpus_score
from nemo_distill.metrics.significance import REVISION, SignificanceSettings, compare
from nemo_distill.storage.files import remove_leftovers, versions
from nemo_distill.storage.ledger import Work, fingerprint
from nemo_distill.storage.made_with import made_with


@dataclass(frozen=True)
class EvaluationJob:
    """The settings of an evaluation.

    Args:
        systems: the systems. Compression is relative to the first one.
        sets: the test sets. Speed is measured on the first one.
        folder: the output folder.
        search: the search settings.
        metrics: names from `scores.METRICS`.
        significance: the settings of the significance test.
        speed: the settings of the speed measurement; None: not measured.
        comet: the settings of COMET.
        device: `cpu`, `cuda`, ...
        threads: number of threads per system during the speed measurement.
        chunk: number of sentences to translate together.
    """

    systems: Sequence[System]
    sets: Sequence[EvaluationSet]
    folder: Path
    search: SearchSettings
    metrics: Sequence[str]
    significance: SignificanceSettings
    speed: SpeedSettings | None
    comet: CometSettings
    device: str
    threads: int
    chunk: int

    @property
    def texts(self) -> Texts:
        return Texts(self.folder / "texts", self.search, self.chunk)

    def run(self) -> dict[str, Any]:
        """Translates what is not translated yet, scores, compares and measures. Returns the `evaluation.json` record.

        It contains `made_with`, `systems` and `test_sets`. A test set contains the scores, the comparisons and
        `groups`: mean and standard deviation over the seeds of each group with several seeds.
        """
        scores = self.folder / "scores"
        for folder in (self.folder, self.texts.folder, scores, *scores.glob("*/")):
            remove_leftovers(folder)
        for one in self.sets:
            self.texts.write_set(one)
        for system in self.systems:
            self.texts.translate(system, self.sets, self.device)
        speeds = self._speeds()
        console.info("scoring")
        return {
            "made_with": made_with(self.device, self.threads) | {"search": asdict(self.search)},
            "systems": self._systems(speeds),
            "test_sets": self._test_sets(),
        }

    def _speeds(self) -> list[dict[str, float] | None]:
        """Measures all systems, unless they were measured before on the same hardware and code revision."""
        if self.speed is None:
            return [None] * len(self.systems)
        made = made_with(self.device, self.threads)
        settings = {
            "systems": [system_settings(system) for system in self.systems],
            "source": fingerprint(self.texts.folder / f"{self.sets[0].name}.src"),
            "search": asdict(self.search),
            "timed": asdict(self.speed),
            "device": made["device"],
            "threads": self.threads,
            "language": self.sets[0].language,
            "versions": made["versions"],
            "git_revision": made["git_revision"],
        }
        return Work(self.folder / "speed.json", settings).kept(self._measured)["speeds"]

    def _measured(self) -> dict[str, Any]:
        console.info("timing all systems, in turns")
        lines = [line for line in self.texts.read(self.sets[0], "src") if line]
        language = self.sets[0].language
        found = measure(self.systems, lines, self.speed, self.search, self.device, self.threads, language)
        return {"speeds": [asdict(speed) for speed in found]}

    def _systems(self, speeds: Sequence[dict[str, float] | None]) -> dict[str, Any]:
        counts = [system.parameters() for system in self.systems]
        return {
            system.name: {
                "model": system.model.name,
                "sha256": fingerprint(system.model)["sha256"],
                "engine": system.engine,
                "dtype": system.dtype,
                "parameters": count.total if count else None,
                "parameters_without_embeddings": count.without_embeddings if count else None,
                "bytes": system.bytes(),
                "compression": counts[0].total / count.total if count and counts[0] else None,
                "group": system.group,
                "seed": system.seed,
                "speed": speed,
            }
            for system, count, speed in zip(self.systems, counts, speeds)
        }

    def _test_sets(self) -> dict[str, Any]:
        return {one.name: self._test_set(one) for one in self.sets}

    def _test_set(self, one: EvaluationSet) -> dict[str, Any]:
        sources, references = self.texts.read(one, "src"), self.texts.read(one, "ref")
        texts = {system.name: self.texts.read(one, f"{system.name}.txt") for system in self.systems}
        scores = {name: self._scores(one, name, lines, references) for name, lines in texts.items()}
        if self.comet.checkpoint:
            for name, score in self._comet(one, sources, texts, references).items():
                scores[name]["COMET"] = score
        return {
            "lines": len(sources),
            "source": one.source.name,
            "reference": one.reference.name,
            "scores": scores,
            "groups": group_spreads(scores, {system.name: system.group for system in self.systems}),
            "comparisons": self._comparisons(one, texts, references),
        }

    def _scores(
        self, one: EvaluationSet, name: str, lines: Sequence[str], references: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Returns a system's score in each metric. Scores are stored, because TER is slow."""
        settings = self._scored(one, f"{name}.txt") | {"language": one.language, "versions": versions(["sacrebleu"])}
        scores = {}
        for metric in self.metrics:
            make = partial(corpus_score, metric, lines, references, one.language)
            scores[metric] = _score(self._kept_score(metric, one, name), settings, make)
        return scores

    def _comet(
        self, one: EvaluationSet, sources: Sequence[str], texts: Mapping[str, Sequence[str]], references: Sequence[str]
    ) -> dict[str, dict[str, Any]]:
        """Returns each system's COMET. One process computes all missing scores, because loading the model is slow."""
        made_by = {"checkpoint": fingerprint(Path(self.comet.checkpoint).expanduser()), "python": self.comet.python}
        paths = {name: self._kept_score("COMET", one, name) for name in texts}
        settings = {name: self._scored(one, "src", f"{name}.txt") | made_by for name in texts}
        missing = [name for name in texts if Work(paths[name], settings[name]).done(overwrite=True) is None]
        found = {}
        if missing:
            new = {name: texts[name] for name in missing}
            found = comet_scores(self.comet, sources, new, references, self.device)
        return {name: _score(paths[name], settings[name], partial(found.get, name)) for name in texts}

    def _comparisons(
        self, one: EvaluationSet, texts: Mapping[str, Sequence[str]], references: Sequence[str]
    ) -> list[dict[str, Any]]:
        settings = self._scored(one, *(f"{name}.txt" for name in texts))
        settings |= {"language": one.language, "versions": versions(["sacrebleu"]), "test": asdict(self.significance)}
        settings["revision"] = REVISION

        def make() -> dict[str, Any]:
            found = compare(texts, references, self.significance, one.language)
            return {"comparisons": [asdict(comparison) for comparison in found]}

        return Work(self.folder / "scores" / f"{one.name}.comparisons.json", settings).kept(make)["comparisons"]

    def _kept_score(self, metric: str, one: EvaluationSet, name: str) -> Path:
        return self.folder / "scores" / metric / f"{one.name}.{name}.json"

    def _scored(self, one: EvaluationSet, *endings: str) -> dict[str, Any]:
        """Returns what scores depend on: the SHA-256 of the references and of the texts with these endings."""
        files = [self.texts.folder / f"{one.name}.{ending}" for ending in ("ref", *endings)]
        return {"texts": [fingerprint(file) for file in files]}


def _score(path: Path, settings: Mapping[str, Any], make: Callable[[], Score]) -> dict[str, Any]:
    record = Work(path, settings).kept(lambda: asdict(make()))
    return {"value": record["value"], "signature": record["signature"]}


def check_evaluation(cfg: DictConfig) -> None:
    """Checks as much as possible before a model is loaded, and downloads sacrebleu's test sets.

    Raises:
        ConfigurationError: with every problem found.
    """
    evaluation_job(cfg)


def evaluation_job(cfg: DictConfig) -> EvaluationJob:
    """Returns the job of a configuration.

    Raises:
        ConfigurationError: with every problem found.
    """
    values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    sections, problems = _sections(values)
    problems = check_missing(cfg) + problems + _scalar_problems(values)
    systems, system_problems = read_systems(values["models"], sections["search"])
    sets, set_problems = read_evaluation_sets(values["test_sets"])
    problems += system_problems + set_problems + _name_problems(values)
    if not problems:
        sets, problems = with_languages(sets, {system.name: system.written_language() for system in systems})
    significance = sections["significance"]
    if significance and not problems:
        tested = significance.metrics or values["metrics"][:1]
        if unscored := [name for name in tested if name not in values["metrics"]]:
            problems.append(f"significance.metrics={unscored}: must be of metrics={values['metrics']}.")
        sections["significance"] = replace(significance, metrics=tested)
    if problems:
        raise ConfigurationError(problems)
    return EvaluationJob(
        systems,
        sets,
        Path(values["output_dir"]).expanduser(),
        metrics=values["metrics"],
        **sections,
        device=values["device"],
        threads=values["threads"] or torch.get_num_threads(),
        chunk=values["chunk"],
    )


def _sections(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    sections, problems = {"speed": None}, []
    for name, kind in (
        ("search", SearchSettings),
        ("significance", SignificanceSettings),
        ("speed", SpeedSettings),
        ("comet", CometSettings),
    ):
        if name == "speed" and values[name] is None:
            continue
        sections[name], found = read_section(kind, values[name] or {}, name)
        problems += found
    if sections["search"] and sections["search"].n_best > 1:
        problems.append("search.n_best: an evaluation wants one translation a sentence; leave it at 1.")
    return sections, problems


def _scalar_problems(values: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{key}={values[key]}: must be {'null or ' if key == 'threads' else ''}a whole number of at least 1."
        for key in ("threads", "chunk")
        if not (values[key] is None and key == "threads") and (not isinstance(values[key], int) or values[key] < 1)
    ]
    metrics = values["metrics"]
    if not isinstance(metrics, list) or not metrics or not set(metrics) <= set(METRICS):
        problems.append(f"metrics={metrics}: must be a list of {', '.join(METRICS)}.")
    return problems + device_problems(values["device"])


def _name_problems(values: Mapping[str, Any]) -> list[str]:
    significance, models = values["significance"], values["models"]
    baselines = significance.get("baselines") if isinstance(significance, Mapping) else None
    if not isinstance(baselines, list) or not isinstance(models, Mapping):  # null, or reported by another check
        return []
    return [
        f"significance.baselines names '{name}'; models has {', '.join(models) or 'none'}."
        for name in baselines
        if name not in models
    ]


def main(cfg: DictConfig) -> None:
    check(cfg, check_evaluation)
    job = evaluation_job(cfg)
    with plain_errors(goes_on=True):
        evaluation = job.run()
        write_evaluation(evaluation, job.folder)
    print_evaluation(evaluation)
