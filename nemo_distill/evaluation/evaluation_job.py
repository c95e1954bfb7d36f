"""Runs an evaluation: systems and test sets in; scores, comparisons, sizes and speeds out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.console import console
from nemo_distill.decoding.engines import Device
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.comet import CometSettings, comet_scores
from nemo_distill.evaluation.evaluation_sets import NAME, EvaluationSet
from nemo_distill.evaluation.evaluation_tables import group_spreads, write_evaluation
from nemo_distill.evaluation.exports import make_exports, with_exports
from nemo_distill.evaluation.failure_report import write_failures
from nemo_distill.evaluation.gains import gaps_closed
from nemo_distill.evaluation.likeness import compared_pairs
from nemo_distill.evaluation.seen_text import seen_sentences
from nemo_distill.evaluation.speed import SpeedSettings, measure
from nemo_distill.evaluation.systems import System, TextSystem
from nemo_distill.evaluation.translations import CHUNK, Texts, system_settings
from nemo_distill.evaluation.verdict import verdict
from nemo_distill.export.settings import Quantization
from nemo_distill.failures.profile import TranslatedSet
from nemo_distill.failures.settings import FailureSettings
from nemo_distill.metrics.line_scores import ScorerSettings, command_fingerprints, scores_by_command
from nemo_distill.metrics.scores import (
    FEWER_IS_BETTER,
    METRICS,
    MetricName,
    Score,
    corpus_score,
    flores_pieces,
    metric_problems,
)
from nemo_distill.metrics.significance import REVISION, Pair, SignificanceSettings, compare, resample
from nemo_distill.storage.files import folder_lock, remove_leftovers, versions
from nemo_distill.storage.ledger import Work, fingerprint
from nemo_distill.storage.made_with import made_with
from nemo_distill.text.files import input_files
from nemo_distill.text.languages import bleu_tokenization

Lines = Mapping[str, Sequence[str]]  # translations by system
Scores = Iterable[tuple[str, Score]]  # names of systems, and their scores


@section
class EvaluationSettings:
    """How systems are scored, compared and timed."""

    metrics: list[MetricName] = Field(default=["BLEU", "chrF", "TER"], min_length=1)
    """The scores that are computed. spBLEU needs FLORES-200's SentencePiece model, which an error names if it is
    missing."""
    significance: SignificanceSettings = Field(default_factory=SignificanceSettings)
    """How differences are tested."""
    speed: SpeedSettings | None = Field(default_factory=SpeedSettings)
    """What is timed; null: nothing."""
    export: Quantization | None = "int8"
    """Each `.nemo` and Hugging Face folder is evaluated in CTranslate2 too, with these weights, so that sizes and
    speeds are compared within one engine and precision. Exports are kept beside the results. null: no exports. Without
    the extra `ctranslate2` there are none, and the results say so."""
    comet: CometSettings = Field(default_factory=CometSettings)
    """Whether and by what COMET is computed."""
    scorers: dict[str, ScorerSettings] = Field(default_factory=dict)
    """Metrics of your own by name, such as MetricX: each a command that scores lines."""
    failures: FailureSettings | None = Field(default_factory=FailureSettings)
    """What failures are counted; null: none."""
    device: Device = "cpu"
    """Where the models run: `cpu`, `cuda` or one GPU such as `cuda:1`."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of each timed system; null: `OMP_NUM_THREADS`, or torch's default."""
    chunk: int = Field(default=CHUNK, ge=1)
    """Number of sentences that are sorted by length and translated together."""

    def problems(self) -> list[str]:
        """Returns a sentence for each metric whose file is missing, whose name is taken, or that is not scored."""
        problems = metric_problems(f"metrics={self.metrics}", self.metrics)
        problems += [
            f"scorers.{name}: a name may have letters, digits, _, + and -, and not be that of another metric."
            for name in self.scorers
            if not NAME.fullmatch(name) or name in (*METRICS, "COMET")
        ]
        if unscored := [name for name in self.significance.metrics or () if name not in self.metrics]:
            problems.append(f"significance.metrics={unscored}: must be of metrics={self.metrics}.")
        return problems


@dataclass(frozen=True)
class EvaluationJob:
    """An evaluation.

    Args:
        systems: compression is relative to the first one.
        sets: the test sets; speed is measured on the first one.
        folder: where everything is written.
        search: how the systems search.
        settings: how they are scored, compared and timed.
    """

    systems: Sequence[System]
    sets: Sequence[EvaluationSet]
    folder: Path
    search: SearchSettings
    settings: EvaluationSettings

    @cached_property
    def texts(self) -> Texts:
        """The folder of what is translated, and of the translations."""
        return Texts(self.folder / "texts", self.search, self.settings.chunk)

    @property
    def threads(self) -> int:
        """The threads that each system is timed with."""
        return self.settings.threads or torch.get_num_threads()

    @property
    def significance(self) -> SignificanceSettings:
        """How differences are tested, and by which metrics."""
        chosen = self.settings.significance
        return replace(chosen, metrics=chosen.metrics or self.settings.metrics[:1])

    @property
    def main_metric(self) -> str:
        """What the gap that is closed and the verdict are measured by: the first metric of the tests."""
        return (self.significance.metrics or self.settings.metrics)[0]

    @cached_property
    def exported(self) -> tuple[list[System], list[str]]:
        """The systems with their exports, and a sentence for each model that is not exported.

        Raises:
            ConfigurationError: if a system has the name of another one's export.
        """
        return with_exports(self.systems, self.search, self.settings.export, self.folder / "exports")

    @property
    def all_systems(self) -> list[System]:
        """The systems and their exports."""
        return self.exported[0]

    def run(self) -> dict[str, Any]:
        """Translates what has not been translated before, scores, compares and times, and returns `evaluation.json`.

        It has `made_with`, `systems`, `test_sets`, `verdict` and `notes`; see `EvaluationRecord`. A test set has,
        beside the scores, `groups`: mean and standard deviation over the seeds of each group that has several. If the
        failures name the training text, it also has `seen`. The record and its tables are in the folder then. Another
        process that evaluates in the same folder waits.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.folder):
            evaluation = self._evaluation()
            write_evaluation(evaluation, self.folder)
            if self.settings.failures is not None:
                write_failures(self, self.settings.failures)
        return evaluation

    def _evaluation(self) -> dict[str, Any]:
        scores = self.folder / "scores"
        for folder in (self.folder, self.texts.folder, scores, *scores.glob("*/")):
            remove_leftovers(folder)
        systems, notes = self.exported
        for note in notes:
            console.info(note)
        if self.settings.export is not None:
            make_exports(systems, self.settings.export)
        for one in self.sets:
            self.texts.write_set(one)
        for system in systems:
            self.texts.translate(system, self.sets, self.settings.device)
        speeds, timed = self._speeds()
        console.info("scoring")
        evaluation = {
            "made_with": made_with(self.settings.device, self.threads) | {"search": asdict(self.search)} | timed,
            "systems": self._systems(speeds),
            "notes": notes,
        }
        return evaluation | self._quality(evaluation)

    def _quality(self, evaluation: dict[str, Any]) -> dict[str, Any]:
        """Returns the `test_sets` and the `verdict` of an evaluation whose systems are known."""
        sets, resampled, seen = {}, {}, self._seen()
        baselines = self.settings.significance.baselines or [self.systems[0].name]
        exports = {system.made_from.name: system.name for system in self.all_systems if system.made_from}
        pairs = compared_pairs(evaluation["systems"], baselines, exports)
        for one in self.sets:
            sets[one.name], resampled[one.name] = self._test_set(one, pairs)
            sets[one.name] |= {"seen": seen[one.name]} if seen else {}
        metric = self.main_metric
        found = evaluation | {"test_sets": sets}
        fewer = metric in FEWER_IS_BETTER
        for name, of_set in sets.items():
            of_set["gaps"] = {} if fewer else gaps_closed(found, name, metric, resampled[name])
        return {"test_sets": sets, "verdict": verdict(found, metric, resampled)}

    def _speeds(self) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
        """Measures the systems, unless these have been measured before, on such a machine and by this revision.

        Of several seeds of a model, the first one is timed. Systems of text only are not.

        Returns:
            The speed of each system, and `timed`, the date of the measurement.
        """
        timed: dict[str, System] = {}
        for system in self.all_systems:
            if not isinstance(system, TextSystem):
                timed.setdefault(system.group, system)
        if self.settings.speed is None or not timed:
            return {}, {}
        systems = list(timed.values())
        made = made_with(self.settings.device, self.threads)
        settings = {
            "systems": [
                system_settings(system) | {"search": asdict(system.searched(self.search))} for system in systems
            ],
            "source": fingerprint(self.texts.path(self.sets[0], "src")),
            "timed": asdict(self.settings.speed),
            "device": made["device"],
            "threads": self.threads,
            "language": self.sets[0].language,
            "versions": made["versions"],
            "git_revision": made["git_revision"],
        }
        work = Work(self.folder / "speed.json", settings)
        found = work.kept(partial(self._measured, systems, self.settings.speed, made["date"]))
        return dict(zip((system.name for system in systems), found["speeds"])), {"timed": found["date"]}

    def _measured(self, systems: Sequence[System], speed: SpeedSettings, date: str) -> dict[str, Any]:
        console.info("timing all systems, in turns")
        lines = [line for line in self.texts.read(self.sets[0], "src") if line]
        language = self.sets[0].language
        found = measure(systems, lines, speed, self.search, self.settings.device, self.threads, language)
        return {"speeds": [asdict(one) for one in found], "date": date}

    def _systems(self, speeds: Mapping[str, dict[str, float]]) -> dict[str, Any]:
        systems = {system.name: system for system in self.all_systems}
        counts = {name: system.parameters() for name, system in systems.items()}
        first = next(iter(counts.values()))
        found = {}
        for name, system in systems.items():
            count, trained = counts[name], systems.get(system.same_model_as or name, system)
            found[name] = {
                "model": system.file["name"],
                "sha256": system.file["sha256"],
                "engine": system.engine,
                "precision": system.precision,
                "beam_size": None if isinstance(system, TextSystem) else system.searched(self.search).beam_size,
                "same_model_as": system.same_model_as,
                "parameters": count.total if count else None,
                "parameters_without_embeddings": count.without_embeddings if count else None,
                "bytes": system.bytes(),
                "compression": first.total / count.total if count and first else None,
                "group": system.group,
                "seed": system.seed,
                "role": system.role,
                "training": trained.training(),
                "label_smoothing": trained.label_smoothing(),
                "selected_by": trained.selected_by(),
                "speed": speeds.get(name),
            }
        return found

    def _test_set(self, one: EvaluationSet, pairs: Sequence[Pair]) -> tuple[dict[str, Any], dict[str, list[float]]]:
        """Returns the record of a test set, and each system's scores on the same resamples of its sentences."""
        texts = self.texts.translated_set(one, self.all_systems)
        scores, compared = self._scores(one, texts), self._compared(one, texts, pairs)
        files = {"src": one.source, **one.references}
        return {
            "lines": len(texts.sources),
            "source": one.source.name,
            "reference": ", ".join(path.name for path in one.references.values()),
            "references": len(one.references),
            "sha256": {side: fingerprint(path)["sha256"] for side, path in files.items()},
            "lower_is_better": [name for name, scorer in self.settings.scorers.items() if scorer.lower_is_better],
            "scores": scores,
            "groups": group_spreads(scores, {system.name: system.group for system in self.all_systems}),
            "comparisons": compared["comparisons"],
        }, compared["resampled"]

    def _seen(self) -> Mapping[str, Mapping[str, int]]:
        """Returns how many sentences of each test set are in the training text; nothing if no such text is named."""
        failures = self.settings.failures or FailureSettings()
        named = {"sources": failures.training_source, "references": failures.training_target}
        training = {side: input_files(names) for side, names in named.items() if names}
        sides = {"sources": "src", "references": "ref"}
        sets = {one.name: {side: self.texts.path(one, ending) for side, ending in sides.items()} for one in self.sets}
        return seen_sentences(sets, training, self.folder / "scores" / "seen.json") if training else {}

    def _scores(self, one: EvaluationSet, texts: TranslatedSet) -> dict[str, dict[str, Any]]:
        """Returns each system's score by each metric."""
        settings, sources, references = self.settings, texts.sources, texts.references

        def by_sacrebleu(metric: str, new: Lines) -> Scores:
            for name, lines in new.items():
                yield name, corpus_score(metric, lines, references, one.language, texts.more_references)

        def by_comet(new: Lines) -> Scores:
            return comet_scores(settings.comet, sources, new, references, settings.device)

        def by_command(metric: str, new: Lines) -> Scores:
            yield from scores_by_command(metric, settings.scorers[metric], sources, references, new).items()

        found: dict[str, dict[str, Any]] = {}
        kept = partial(self._kept_scores, one, texts.translations)
        for metric in settings.metrics:
            found[metric] = kept(metric, self._scored_as(one), partial(by_sacrebleu, metric))
        if settings.comet.checkpoint:
            found["COMET"] = kept("COMET", settings.comet.made_by(), by_comet)
        for name, scorer in settings.scorers.items():
            made_by = asdict(scorer) | {"files": command_fingerprints(scorer.command)}
            found[name] = kept(name, made_by, partial(by_command, name))
        return {system: {metric: scores[system] for metric, scores in found.items()} for system in texts.translations}

    def _kept_scores(
        self,
        one: EvaluationSet,
        texts: Lines,
        metric: str,
        made_by: Mapping[str, Any],
        score: Callable[[Lines], Scores],
    ) -> dict[str, dict[str, Any]]:
        """Returns each system's score by a metric; those of unchanged texts are kept.

        All systems that have none yet are scored together, since a metric's model loads slowly. Each score is kept as
        soon as it is there, since TER takes a minute for some thousand sentences.
        """
        works = {
            name: Work(
                self.folder / "scores" / metric / f"{one.name}.{name}.json",
                {"texts": self.texts.fingerprints(one, *one.references, "src", f"{name}.txt"), **made_by},
            )
            for name in texts
        }
        found = {name: work.done(overwrite=True) for name, work in works.items()}
        if new := {name: texts[name] for name, record in found.items() if record is None}:
            found |= {name: works[name].finish(asdict(made)) for name, made in score(new)}
        return {name: {key: record[key] for key in ("value", "signature")} for name, record in found.items() if record}

    def _compared(self, one: EvaluationSet, texts: TranslatedSet, pairs: Sequence[Pair]) -> Mapping[str, Any]:
        """Returns the `comparisons` of systems, and their scores on `resampled` sentences."""
        settings = {
            "texts": self.texts.fingerprints(one, *one.references, *(f"{name}.txt" for name in texts.translations)),
            "test": asdict(self.significance),
            "systems": list(texts.translations),
            "pairs": pairs,
            "revision": REVISION,
            **self._scored_as(one),
        }

        def make() -> dict[str, Any]:
            scored, by = (texts.translations, texts.references), (one.language, texts.more_references)
            return {
                "comparisons": list(compare(*scored, self.significance, pairs, *by)),
                "resampled": resample(*scored, self.main_metric, *by),
            }

        return Work(self.folder / "scores" / f"{one.name}.comparisons.json", settings).kept(make)

    def _scored_as(self, one: EvaluationSet) -> dict[str, Any]:
        pieces = {"pieces": fingerprint(flores_pieces())} if "spBLEU" in self.settings.metrics else {}
        return {"tokenizer": bleu_tokenization(one.language), "versions": versions(["sacrebleu"]), **pieces}
