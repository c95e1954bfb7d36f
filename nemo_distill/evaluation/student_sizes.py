"""Which student is small enough: shapes between those of the study, with the parameters that each would have."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.evaluation.parameters import ParameterCount, count_parameters

WIDTHS = (256, 384, 512, 768, 1024)
ENCODER_LAYERS = (1, 2, 3)
DECODER_LAYERS = (1, 2, 3, 4)
HEAD_WIDTH, INNER_WIDTHS = 64, 4  # of all of the study's students
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class StudentShape:
    """The sizes of a student, with the heads and the inner width that the study gives this width."""

    encoder_layers: int
    decoder_layers: int
    width: int

    @property
    def sides(self) -> dict[str, dict[str, Any]]:
        """What the model's config says of encoder and decoder, as in `conf/student/`."""
        size = {
            "hidden_size": self.width,
            "inner_size": INNER_WIDTHS * self.width,
            "num_attention_heads": self.width // HEAD_WIDTH,
            "pre_ln": True,
        }
        layers = {"encoder": self.encoder_layers, "decoder": self.decoder_layers}
        return {side: {"num_layers": count, **size} for side, count in layers.items()}

    def overrides(self) -> list[str]:
        """What the training command says for a student of this shape; the study's own go by their names."""
        if name := NAMES.get(self):
            return [f"student={name}"]
        sides = self.sides.items()
        return [f"model.{side}.{key}={str(value).lower()}" for side, size in sides for key, value in size.items()]


NAMES = {
    StudentShape(1, 1, 256): "slim_1x1",
    StudentShape(3, 3, 256): "slim_3x3",
    StudentShape(1, 1, 1024): "wide_1x1",
    StudentShape(3, 4, 1024): "wide_3x4",
}


@section
class SizeTarget:
    """What a student must keep to; None asks nothing."""

    parameters: int | None = Field(default=None, gt=0)
    """At most as many."""
    bytes: int | None = Field(default=None, gt=0)
    """Of its weights, at most."""
    tokens_per_second: float | None = Field(default=None, gt=0)
    """At least as many; needs `teacher_tokens_per_second`."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights, `float32`, `float16` or `bfloat16`."""
    teacher_tokens_per_second: float | None = Field(default=None, gt=0)
    """As an evaluation measured it."""

    def problems(self) -> list[str]:
        """Returns a sentence if nothing is asked, or what is asked cannot be estimated."""
        problems = []
        if (self.parameters, self.bytes, self.tokens_per_second) == (None, None, None):
            problems.append("parameters=null, like bytes and tokens_per_second: give at least one of the three.")
        if self.tokens_per_second and not self.teacher_tokens_per_second:
            problems.append(
                "tokens_per_second is estimated from the teacher's: give teacher_tokens_per_second, as an evaluation "
                "measures it."
            )
        return problems


@dataclass(frozen=True)
class Candidate:
    """A student that could be trained.

    Args:
        shape: its sizes.
        count: its parameters.
        bytes: of its weights.
        tokens_per_second: estimated; None without the teacher's.
    """

    shape: StudentShape
    count: ParameterCount
    bytes: int
    tokens_per_second: float | None


def candidates(teacher: ParameterCount, pieces: tuple[int, int], shared: bool, target: SizeTarget) -> list[Candidate]:
    """Returns all students of the grid that are smaller than the teacher, the largest first.

    Tokens a second are the teacher's, times the weights that the teacher multiplies a token by over those of the
    student (`ParameterCount.per_token`): time is taken to be proportional to multiplications, as if nothing else took
    any and a translation had as many tokens as its source. Small models do not get that fast; it is an upper bound to
    be measured by an evaluation.

    Args:
        teacher: the teacher's parameters.
        pieces: of its source and its target tokenizer, which the student takes.
        shared: whether the student's encoder and decoder share one embedding matrix.
        target: the dtype and the teacher's speed.
    """
    found = [_candidate(shape, count, teacher, target) for shape, count in _grid(pieces, shared)]
    smaller = [candidate for candidate in found if candidate.count.total < teacher.total]
    return sorted(smaller, key=lambda candidate: -candidate.count.total)


def meets(candidate: Candidate, target: SizeTarget) -> bool:
    """True if a student keeps to all that is asked."""
    return (
        (target.parameters is None or candidate.count.total <= target.parameters)
        and (target.bytes is None or candidate.bytes <= target.bytes)
        and (target.tokens_per_second is None or (candidate.tokens_per_second or 0) >= target.tokens_per_second)
    )


def _grid(pieces: tuple[int, int], shared: bool) -> Iterator[tuple[StudentShape, ParameterCount]]:
    for sizes in product(ENCODER_LAYERS, DECODER_LAYERS, WIDTHS):
        shape = StudentShape(*sizes)
        if count := count_parameters(_complete(shape.sides) | {"shared_embeddings": shared}, *pieces):
            yield shape, count


def _complete(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What `conf/aayn_base.yaml` says where NeMo's own default would be another."""
    return {side: {**size, "pre_ln_final_layer_norm": True} for side, size in sides.items()}


def _candidate(shape: StudentShape, count: ParameterCount, teacher: ParameterCount, target: SizeTarget) -> Candidate:
    speed = target.teacher_tokens_per_second
    estimate = speed * teacher.per_token / count.per_token if speed else None
    return Candidate(shape, count, count.total * BYTES[target.dtype], estimate)
