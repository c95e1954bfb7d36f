"""Runs an explanation: translates, scores fixed translations, and reads the training text once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.console import console
from nemo_distill.decoding.engines import Device
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.evaluation_sets import EvaluationSet
from nemo_distill.evaluation.explanation import (
    EXPORT,
    SERVED,
    STUDENT,
    TEACHER,
    WIDE,
    Explanation,
    forced_record,
    seeds_record,
)
from nemo_distill.evaluation.explanation_tables import EXPLANATION_NAME, explanation_as_markdown
from nemo_distill.evaluation.exports import make_exports, with_exports
from nemo_distill.evaluation.systems import OF_NEMO, System
from nemo_distill.evaluation.training_view import read_training
from nemo_distill.evaluation.translations import Texts, system_settings
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import QUANTIZATIONS
from nemo_distill.metrics.learning_curve import MORE_STEPS, growth, growth_problem, steps_points
from nemo_distill.metrics.scores import Score, corpus_score
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.storage.files import folder_lock, remove_leftovers, user_path, versions, write_text
from nemo_distill.storage.ledger import Work, fingerprint
from nemo_distill.storage.made_with import made_with
from nemo_distill.text.languages import bleu_tokenization

REVISION = 1  # increase it when the same texts give another explanation
SAMPLE = "training_sample"  # the name of its files


@section
class ExplainSettings:
    """How a gap is explained."""

    metric: Literal["BLEU", "spBLEU", "chrF", "chrF++"] = "BLEU"
    """What the gap is measured by."""
    beam_size: int | None = Field(default=None, ge=1)
    """The student's own beam size; 1 is greedy search; null: that of `search`."""
    wide_beam_size: int = Field(default=16, ge=2)
    """The student's search is compared with one of this beam size."""
    export: str | None = "int8"
    """What serves the student: the type of an export's weights, which is made here, or the folder of an export, whose
    shortlist is then measured too; null: the `.nemo` itself."""
    labels: Literal["teacher", "text"] | None = None
    """Whether the training targets are the teacher's translations or other text; null: found out by the sample."""
    sample: int = Field(default=1000, ge=100)
    """Number of training pairs that are translated."""
    rare: int = Field(default=10, ge=1)
    """A word is rare if the training targets have it less often."""
    device: Device = "cpu"
    """Where the models run: `cpu`, `cuda` or one GPU such as `cuda:1`."""
    search: SearchSettings = Field(default_factory=lambda: SearchSettings(length_penalty=0.0))
    """How teacher and student search."""


@dataclass(frozen=True)
class ExplainJob:
    """An explanation of the gap between a student and its teacher.

    Args:
        teacher: the teacher.
        students: `.nemo` files; the first is explained, the others differ from it only in their seed.
        test: the test set.
        training: source and target files that the student was trained on.
        folder: where everything is written.
        settings: how the gap is explained.
        curve: the validation scores of the student's training, by steps; may be empty.
    """

    teacher: System
    students: Sequence[Path]
    test: EvaluationSet
    training: Sequence[tuple[Path, Path]]
    folder: Path
    settings: ExplainSettings
    curve: Sequence[tuple[float, float]] = ()

    @cached_property
    def texts(self) -> Texts:
        """The folder of the translations."""
        return Texts(self.folder / "texts", self.settings.search)

    @property
    def student(self) -> System:
        """The student that is explained."""
        return self._students[0]

    @cached_property
    def _students(self) -> list[System]:
        names = [STUDENT, *(f"{STUDENT}{number}" for number in range(2, len(self.students) + 1))]
        beam = self.settings.beam_size
        return [System(name, path, "nemo_distill", beam_size=beam) for name, path in zip(names, self.students)]

    def run(self) -> dict[str, Any]:
        """Translates and scores what is not there yet; writes and returns `explanation.json`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.folder):
            for folder in (self.folder, self.texts.folder):
                remove_leftovers(folder)
            record = self._explained()
            write_text(self.folder / "explanation.md", explanation_as_markdown(record))
        return record

    def _explained(self) -> dict[str, Any]:
        self.texts.write_set(self.test)
        asked, record = self.texts.translated_set(self.test), self.folder / "training_text.json"
        view = read_training(self.training, asked.sources, asked.references, self.settings.sample, record)
        sample = self.texts.new_set(SAMPLE, view.sources, view.labels, self.test.language)
        exports, notes = self._exports()
        wide = replace(self.student, name=WIDE, beam_size=self.settings.wide_beam_size)
        for system in (self.teacher, self.student):
            self.texts.translate(system, [self.test, sample], self.settings.device)
        for system in (wide, *exports, *self._students[1:]):
            self.texts.translate(system, [self.test], self.settings.device)
        systems = [self.teacher, wide, self.student, *exports]
        explanation = Explanation(
            self.texts.translated_set(self.test, systems),
            self.texts.translated_set(sample, [self.teacher, self.student]),
            view,
            self.settings.rare,
            self.settings.metric,
            self.test.language,
            self.settings.labels,
        )
        return self._record(explanation, sample, [*systems, *self._students[1:]], notes)

    def _record(
        self, explanation: Explanation, sample: EvaluationSet, systems: Sequence[System], notes: Sequence[str]
    ) -> dict[str, Any]:
        translated = [f"{system.name}.txt" for system in systems]
        texts = self.texts.fingerprints(self.test, "src", *self.test.references, *translated)
        texts += self.texts.fingerprints(sample, "ref", f"{TEACHER}.txt", f"{STUDENT}.txt")
        settings = {
            "texts": texts,
            "training_text": fingerprint(self.folder / "training_text.json"),
            "settings": {key: asdict(self.settings)[key] for key in ("metric", "labels", "rare", "search")},
            "models": {system.name: system_settings(system) for system in systems},
            "curve": self.curve,
            "tokenizer": bleu_tokenization(self.test.language),
            "versions": versions(["sacrebleu"]),
            "revision": REVISION,
        }

        def make() -> dict[str, Any]:
            console.info("measuring the parts")
            return {
                "made_with": made_with(self.settings.device, torch.get_num_threads()),
                "test_set": {"sentences": len(explanation.test.sources), "source": self.test.source.name},
                "signature": self._score(TEACHER).signature,
                **explanation.record(),
                **self._forced(explanation, sample),
                "seeds": self._seeds(),
                "steps": self._steps(),
                "notes": list(notes),
            }

        return dict(Work(self.folder / EXPLANATION_NAME, settings).kept(make))

    def _exports(self) -> tuple[list[System], list[str]]:
        """Returns the student's exports, made if they are not there, and a sentence if there is none."""
        if self.settings.export is None:
            return [], ["Quantization is not measured: export=null."]
        served, quantization = None, self.settings.export
        if folder := export_folder(quantization):
            served = replace(self.student, name=SERVED, model=folder, engine="ctranslate2")
            quantization = str(served.precision)
            if ExportRecord.read(folder).shortlist is None:
                return [replace(served, name=EXPORT)], []
        systems, notes = with_exports([self.student], self.settings.search, quantization, self.folder / "exports")
        make_exports(systems, quantization)
        return [*(replace(one, name=EXPORT) for one in systems[1:]), *([served] if served else [])], notes

    def _score(self, name: str) -> Score:
        lines, one = self.texts.read(self.test, f"{name}.txt"), self.texts.translated_set(self.test)
        return corpus_score(self.settings.metric, lines, one.references, self.test.language, one.more_references)

    def _seeds(self) -> dict[str, Any] | None:
        if len(self._students) < 2:
            return None
        scores = {system.name: self._score(system.name).value for system in self._students}
        return seeds_record(scores, self._score(TEACHER).value)

    def _steps(self) -> dict[str, Any]:
        """Returns what more steps would bring, or the `problem` why that is not predicted."""
        points = steps_points(self.curve)
        if problem := growth_problem(points):
            return {"problem": problem}
        return asdict(growth(points, MORE_STEPS))

    def _forced(self, explanation: Explanation, sample: EvaluationSet) -> dict[str, Any]:
        """Returns the search errors and the losses."""
        asked = {
            "labels": (sample, "ref"),
            "test": (self.test, f"{TEACHER}.txt" if explanation.teachers_labels else "ref"),
        }
        of_test = {"own": (self.test, f"{STUDENT}.txt"), "teachers": (self.test, f"{TEACHER}.txt")}
        student = self._scored(self.student, of_test | asked)
        found = {STUDENT: student}
        if can_score(self.teacher):
            found[TEACHER] = self._scored(self.teacher, asked)
        losses = {place: {name: scores[place] for name, scores in found.items()} for place in asked}
        search = self.student.searched(self.settings.search)
        return forced_record(student["own"], student["teachers"], losses, search)

    def _scored(self, system: System, asked: Mapping[str, tuple[EvaluationSet, str]]) -> dict[str, np.ndarray]:
        """Returns a model's scores of the lines in some files of the texts, each (N, 2); see `forced_record`."""
        settings = {
            "model": system_settings(system),
            "texts": [text for one, end in asked.values() for text in self.texts.fingerprints(one, "src", end)],
            "versions": versions(["nemo_toolkit", "torch"]),
        }

        def make() -> dict[str, Any]:
            from nemo_distill.models.scoring import load_scorer  # NeMo's import takes many seconds

            scorer = load_scorer(system.model, self.settings.device)
            console.info(f"scoring translations with {system.name}")
            read = self.texts.read
            return {"scores": [scorer.totals(read(one, "src"), read(one, end)) for one, end in asked.values()]}

        record = Work(self.folder / f"forced_{system.name}.json", settings).kept(make)
        return {name: np.array(scores, dtype=float) for name, scores in zip(asked, record["scores"])}


def can_score(system: System) -> bool:
    """True if a system can say how probable a translation is: a bilingual `.nemo`."""
    return system.engine in OF_NEMO and not NemoArchive(system.model).config.get("multilingual")


def export_folder(export: str | None) -> Path | None:
    """Returns the folder that a configuration's `export` names; None if it is a type of weights."""
    return None if export is None or export in QUANTIZATIONS else user_path(export)
