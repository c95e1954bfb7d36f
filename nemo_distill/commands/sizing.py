"""Finds students of a teacher that meet a target: their sizes, their speeds, and what the recipe costs with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from pydantic import Field

from nemo_distill.commands.recipe import Recipe, RecipeConfigs
from nemo_distill.commands.recipe_bill import Cost, RecipeBill
from nemo_distill.config.section import rule, section
from nemo_distill.decoding.engines import Device
from nemo_distill.evaluation.parameters import ParameterCount, archive_parameters
from nemo_distill.evaluation.shape_speed import MeasuredShape, ShapeSpeed, TimedText, made_up_text, measured_shape
from nemo_distill.evaluation.student_sizes import NAMES, Candidate, SizeTarget, candidates, meets, student_config
from nemo_distill.export.settings import missing_package
from nemo_distill.export.supported import unsupported
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import is_hugging_face_model
from nemo_distill.nemo_files.translation_archive import (
    SIDES,
    TeacherPath,
    archived_vocabulary,
    teacher_archive,
)
from nemo_distill.storage.files import UserPath

TIMED_PAIRS = 256  # whose lengths the timed translations have
MEASURED = "measurements"


@section
class SizingConfig:
    """The configuration of `size`."""

    teacher: TeacherPath
    """The `.nemo`, or the folder of a Hugging Face model, whose vocabulary the student has."""
    shared_embeddings: bool | None = None
    """The student's encoder and decoder share one matrix; null: as the teacher's do."""
    shown: int = Field(default=10, ge=1)
    """Students that are listed. Those with a name come first; then as many others are tried."""
    target: SizeTarget = Field(default_factory=SizeTarget)
    """What a student must keep to."""
    speed: ShapeSpeed | None = Field(default_factory=ShapeSpeed)
    """How students are timed, with random weights in CTranslate2 int8; null: they are not."""
    device: Device = "cpu"
    """Where they are timed: `cpu`, `cuda` or one GPU such as `cuda:1`."""
    recipe: Recipe = Field(default_factory=Recipe)
    """What is to be labelled, cached and trained, whose cost is probed."""
    output_dir: UserPath = Path("sizes")
    """The folder of the result, `sizes.json` and `sizes.md`, and of the measurements, which are kept."""

    def problems(self) -> list[str]:
        """Returns a sentence for each target that nothing is measured for."""
        problems = []
        if self.target.speedup and self.speed is None:
            problems.append(f"target.speedup={self.target.speedup}: needs speeds; leave out speed=null.")
        if self.target.hours and self.recipe.source is None:
            problems.append(f"target.hours={self.target.hours}: needs a recipe; give recipe.source.")
        return problems

    @rule
    def teacher_problems(self) -> list[str]:
        """Returns a sentence for each thing that this teacher cannot be asked for."""
        try:
            archive = teacher_archive(self.teacher)
            _teacher_parameters(archive)
            encoder, decoder = (archived_vocabulary(archive, side) for side in SIDES)
        except ValueError as error:
            return [f"teacher={self.teacher}: {error}."]
        reasons = self.untimed() if self.target.speedup and self.speed else []
        problems = [f"target.speedup={self.target.speedup}: {reason}" for reason in reasons]
        if self.shared_embeddings and encoder and decoder and encoder.pieces != decoder.pieces:
            problems.append(
                "shared_embeddings=true: the teacher's sides have different vocabularies; it must be false."
            )
        return problems

    def shared(self) -> bool:
        """Says if the students' encoder and decoder share one matrix."""
        if self.shared_embeddings is not None:
            return self.shared_embeddings
        return bool(teacher_archive(self.teacher).config.get("shared_embeddings", False))

    def untimed(self) -> list[str]:
        """Returns a sentence for each reason why speeds cannot be measured."""
        if not find_spec("ctranslate2"):
            return [missing_package("ctranslate2")]
        config = teacher_archive(self.teacher).config
        if is_hugging_face_model(config):
            return [f"'{self.teacher}' is a model of Hugging Face; only a .nemo is timed."]
        return unsupported(OmegaConf.to_container(config), "ctranslate2")


@dataclass(frozen=True)
class Student:
    """A student with what was measured of it.

    Args:
        candidate: shape and sizes.
        measured: its speed; None if it was not timed.
        training: the cost of its training; None without a recipe.
    """

    candidate: Candidate
    measured: MeasuredShape | None
    training: Cost | None

    @property
    def name(self) -> str:
        """Its name in `student=`, or layers and width."""
        shape = self.candidate.shape
        return NAMES.get(shape) or f"{shape.encoder_layers}x{shape.decoder_layers} of {shape.width}"


def _teacher_parameters(archive: NemoArchive) -> ParameterCount:
    if (count := archive_parameters(archive)) is None:
        raise ValueError("its config does not tell its parameters")
    return count


class Sizing:
    """Finds students that meet a target, and what they cost.

    Args:
        config: a valid configuration.
    """

    def __init__(self, config: SizingConfig):
        self.config, self.target = config, config.target
        self.archive = teacher_archive(config.teacher)
        self.teacher = _teacher_parameters(self.archive)
        self.shared = config.shared()
        self.measurements = config.output_dir / MEASURED
        self.bill = None
        if config.recipe.source is not None:
            configs = RecipeConfigs(config.recipe, self.archive.path, self.shared)
            self.bill = RecipeBill(configs, self.measurements)
        self.untimed = config.untimed() if config.speed else ["speed=null."]

    @cached_property
    def pieces(self) -> tuple[Sequence[str], Sequence[str]]:
        """The vocabularies of both sides."""
        source, target = (
            vocabulary.pieces for side in SIDES if (vocabulary := archived_vocabulary(self.archive, side))
        )
        return source, target

    @cached_property
    def smaller(self) -> list[Candidate]:
        """Students smaller than the teacher, the largest first."""
        source, target = map(len, self.pieces)
        return candidates(self.teacher, (source, target), self.shared, self.target)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """Those of them that meet the limits that need no measurement."""
        return [candidate for candidate in self.smaller if meets(candidate, self.target)]

    @cached_property
    def shared_costs(self) -> dict[str, Cost]:
        """The costs of labels and of a cache, once for all students; none without a recipe."""
        return {"labelling": self.bill.labelling(), "caching": self.bill.caching()} if self.bill else {}

    @cached_property
    def _text(self) -> TimedText:
        if self.bill is None:
            return made_up_text(self.pieces[0], (self.config.speed or ShapeSpeed()).sentences)
        has_pairs = self.config.recipe.target is not None or self.config.recipe.label is not None
        pairs = self.bill.pairs[:TIMED_PAIRS] if has_pairs else []
        return TimedText(*zip(*pairs)) if pairs else TimedText(self.bill.text.sources[:TIMED_PAIRS])

    @cached_property
    def teacher_speed(self) -> MeasuredShape | None:
        """The speed of a model of the teacher's shape."""
        config: Any = OmegaConf.to_container(self.archive.config)
        return self._speed({"shared_embeddings": False, **config}, is_teacher=True)

    def _speed(self, config: Mapping[str, Any], is_teacher: bool = False) -> MeasuredShape | None:
        speed = self.config.speed
        if self.untimed or speed is None:
            return None
        beam_size = speed.beam_size if is_teacher else speed.student_beam_size or speed.beam_size
        device, threads = self.config.device, torch.get_num_threads()
        where = device, threads, self.measurements
        return measured_shape(config, self.archive, self._text, speed, beam_size, *where)

    def students(self) -> list[Student]:
        """Returns the students that meet the target, the largest first. Says what it measures."""
        if self.target.is_given and self.untimed and self.bill is None:  # then nothing is measured
            return [self._measured(candidate) for candidate in self.candidates[: self.config.shown]]
        _ = self.shared_costs, self.teacher_speed
        tried = [self._measured(candidate) for candidate in self.candidates if candidate.shape in NAMES]
        found = [student for student in tried if self.is_met_by(student)]
        others = [candidate for candidate in self.candidates if candidate.shape not in NAMES]
        for candidate in [one for one in others if self._is_likely(one, tried)][: self.config.shown]:
            if len(found) < self.config.shown and self.is_met_by(student := self._measured(candidate)):
                found.append(student)
        return sorted(found, key=lambda student: -student.candidate.count.total)[: self.config.shown]

    def _measured(self, candidate: Candidate) -> Student:
        student = Student(candidate, self._speed(student_config(candidate.shape, self.shared)), None)
        if self.bill is None or not self.is_met_by(student):
            return student
        return replace(student, training=self.bill.training(candidate.shape))

    def faster(self, measured: MeasuredShape | None) -> float | None:
        """Returns how many times as fast as the teacher a shape is, in the same engine; None if it is not known."""
        if measured is None or self.teacher_speed is None:
            return None
        return measured.sentences_per_second / self.teacher_speed.sentences_per_second

    def _is_likely(self, candidate: Candidate, tried: Sequence[Student]) -> bool:
        """True if a shape may meet the target, by its multiplications and by what was measured of others."""
        if not self.target.is_given:
            return False
        cost = candidate.count.per_token
        known = [(faster * one.candidate.count.per_token) for one in tried if (faster := self.faster(one.measured))]
        if self.target.speedup and known and float(np.median(known)) / cost < self.target.speedup:
            return False
        in_time = [one.candidate.count.per_token for one in tried if self.is_met_by(one)]
        return self.target.hours is None or cost <= max(in_time, default=0)

    def hours(self, student: Student) -> float | None:
        """Returns the hours of the recipe with a student; None if they are not known."""
        if student.training is None:
            return None
        return sum(cost.hours for cost in (*self.shared_costs.values(), student.training))

    def is_met_by(self, student: Student) -> bool:
        """True if a student meets the limits, as far as they have been measured."""
        faster, hours, measured = self.faster(student.measured), self.hours(student), student.measured
        if self.target.megabytes and measured and measured.megabytes > self.target.megabytes:
            return False  # with its vocabularies
        return (self.target.speedup is None or faster is None or faster >= self.target.speedup) and (
            self.target.hours is None or hours is None or hours <= self.target.hours
        )
