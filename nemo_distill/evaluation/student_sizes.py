"""Finds student sizes that meet a target: shapes in and between those of `conf/student/`, with their parameters."""

from dataclasses import dataclass
from itertools import product, starmap
from typing import Any, Literal

from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.evaluation.parameters import ParameterCount, count_parameters
from nemo_distill.evaluation.speed import MEGABYTE
from nemo_distill.export.random_model import int8_bytes
from nemo_distill.nemo_files.model_kinds import SIDES

WIDTHS = (256, 384, 512, 768, 1024)
ENCODER_LAYERS = (1, 2, 3, 6, 12)
DECODER_LAYERS = (1, 2, 3, 4)
HEAD_WIDTH, INNER_WIDTHS = 64, 4  # as in all students of the study
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class StudentShape:
    """The shape of a student. Heads and inner width follow from the width, as in the study.

    Args:
        encoder_layers: number of layers of the encoder.
        decoder_layers: number of layers of the decoder.
        width: width of all layers.
        inner_widths: inner width of the feed-forward layers, in widths.
    """

    encoder_layers: int
    decoder_layers: int
    width: int
    inner_widths: int = INNER_WIDTHS

    @property
    def sides(self) -> dict[str, dict[str, Any]]:
        """The config of encoder and decoder, as in `conf/student/`."""
        size = {
            "hidden_size": self.width,
            "inner_size": self.inner_widths * self.width,
            "num_attention_heads": self.width // HEAD_WIDTH,
            "pre_ln": True,
        }
        layers = {"encoder": self.encoder_layers, "decoder": self.decoder_layers}
        return {side: {"num_layers": count, **size} for side, count in layers.items()}

    def overrides(self) -> list[str]:
        """Returns the overrides for training a student of this shape; its name if it has one."""
        if name := NAMES.get(self):
            return [f"student={name}"]
        sides = self.sides.items()
        return [f"model.{side}.{key}={str(value).lower()}" for side, size in sides for key, value in size.items()]


NAMES = {
    StudentShape(1, 1, 256): "slim_1x1",
    StudentShape(3, 3, 256): "slim_3x3",
    StudentShape(1, 1, 1024): "wide_1x1",
    StudentShape(3, 4, 1024): "wide_3x4",
    StudentShape(6, 2, 256, 6): "tiny_6x2",
    StudentShape(6, 2, 512): "base_6x2",
    StudentShape(6, 4, 512): "base_6x4",
    StudentShape(12, 1, 512): "deep_12x1",
}


@section
class SizeTarget:
    """The limits that a student must meet; null: no limit. Without any, the students with a name are listed."""

    parameters: int | None = Field(default=None, gt=0)
    """Maximum number of parameters."""
    bytes: int | None = Field(default=None, gt=0)
    """Maximum size of the weights in bytes."""
    megabytes: float | None = Field(default=None, gt=0)
    """Maximum size of the export in int8, in 10**6 bytes."""
    speedup: float | None = Field(default=None, gt=0)
    """Minimum speed, measured here, in times that of the teacher in the same engine."""
    hours: float | None = Field(default=None, gt=0)
    """Maximum hours of the recipe: labels, cache and training."""
    tokens_per_second: float | None = Field(default=None, gt=0)
    """Minimum speed, estimated; needs `teacher_tokens_per_second`."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """The type of the weights: `float32`, `float16` or `bfloat16`."""
    teacher_tokens_per_second: float | None = Field(default=None, gt=0)
    """The teacher's speed, as measured by an evaluation."""

    def problems(self) -> list[str]:
        """Returns a sentence if a limit cannot be checked."""
        if self.tokens_per_second and not self.teacher_tokens_per_second:
            return [
                "tokens_per_second is estimated from the teacher's: give teacher_tokens_per_second, as an evaluation "
                "measures it."
            ]
        return []

    @property
    def is_given(self) -> bool:
        """True if there is a limit."""
        limits = (self.parameters, self.bytes, self.megabytes, self.speedup, self.hours, self.tokens_per_second)
        return any(limit is not None for limit in limits)


@dataclass(frozen=True)
class Candidate:
    """A student that could be trained.

    Args:
        shape: the shape.
        count: the number of parameters.
        bytes: size of the weights in bytes.
        megabytes: size of the weights in int8, in 10**6 bytes.
        tokens_per_second: estimated speed; None if the teacher's speed is unknown.
    """

    shape: StudentShape
    count: ParameterCount
    bytes: int
    megabytes: float
    tokens_per_second: float | None


def candidates(teacher: ParameterCount, pieces: tuple[int, int], shared: bool, target: SizeTarget) -> list[Candidate]:
    """Returns all students of the grid that are smaller than the teacher, largest first.

    The speed is estimated as the teacher's speed times the ratio of their `ParameterCount.per_token`. This assumes
    that time is proportional to the number of multiplications, and that a translation has as many tokens as its
    source. Small models do not reach this speed. It is an upper bound; measure the real speed with an evaluation.

    Args:
        teacher: the teacher's number of parameters.
        pieces: the vocabulary sizes of the teacher's source and target tokenizers, which the student uses too.
        shared: True if the student's encoder and decoder share one embedding matrix.
        target: provides the type of the weights and the teacher's speed.
    """
    found = []
    grid = starmap(StudentShape, product(ENCODER_LAYERS, DECODER_LAYERS, WIDTHS))
    for shape in dict.fromkeys([*grid, *NAMES]):
        config = student_config(shape, shared)
        count = count_parameters(config, *pieces)
        if count is None or count.total >= teacher.total:
            continue
        speed = target.teacher_tokens_per_second
        found.append(
            Candidate(
                shape,
                count,
                bytes=count.total * BYTES[target.dtype],
                megabytes=int8_bytes(config, dict(zip(SIDES, pieces))) / MEGABYTE,
                tokens_per_second=speed * teacher.per_token / count.per_token if speed else None,
            )
        )
    return sorted(found, key=lambda candidate: -candidate.count.total)


def meets(candidate: Candidate, target: SizeTarget) -> bool:
    """True if a student meets all limits that need no measurement."""
    return (
        (target.megabytes is None or candidate.megabytes <= target.megabytes)
        and (target.parameters is None or candidate.count.total <= target.parameters)
        and (target.bytes is None or candidate.bytes <= target.bytes)
        and (target.tokens_per_second is None or (candidate.tokens_per_second or 0) >= target.tokens_per_second)
    )


def student_config(shape: StudentShape, shared: bool) -> dict[str, Any]:
    """Returns the sections of a student's config that determine its size.

    They have the keys of `conf/aayn_base.yaml` that differ from NeMo's defaults.

    Args:
        shape: the shape.
        shared: as in `candidates`.
    """
    sides = {side: {**size, "pre_ln_final_layer_norm": True} for side, size in shape.sides.items()}
    return {**sides, "shared_embeddings": shared}
