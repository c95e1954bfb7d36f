"""The fields of the `distillation` section that all kinds of models share."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from nemo_distill.config.checks import listing
from nemo_distill.config.schedule import Schedule, Weight, as_schedule
from nemo_distill.config.section import section

CACHED_TENSORS = ("log_probs", "nll")  # the teacher tensors that a teacher cache provides
AVERAGED = "log_probs"  # the only tensor that several teachers can provide, as values or through their projections


@section
class DistillationSection:
    """The teachers and the distillation losses."""

    model_path: str | list[str] | None = None
    """The teacher's `.nemo`, or the folder of a Hugging Face model; or a list of several, whose distributions are
    averaged."""
    teacher_weights: list[Annotated[float, Field(gt=0)]] | None = None
    """Weight of each teacher in the average, if there are several; null: equal weights."""
    teacher_cache: str | None = None
    """A folder made by `cache` with the teacher's outputs for the training data. No teacher is loaded then."""
    teacher_cache_tail: Literal["renormalize", "uniform"] = "renormalize"
    """Probability of the words that the cache does not store. `renormalize`: 0, and the stored words share all
    probability (Tan et al. 2019). `uniform`: the remaining probability, in equal parts."""
    teacher_precision: Literal["bfloat16", "float32"] | None = None
    """Precision of the teachers' weights during training, whatever that of the `.nemo` is; null: float32, or what
    `trainer.precision=auto` chooses. In a mixed precision, matrix products of float32 weights are in bfloat16 too."""
    temperature: Annotated[float, Field(gt=0)] | Schedule = 1.0
    """Divides the logits of teacher and student before their softmax (Hinton et al. 2015, eq. 1)."""
    student_train_loss_weight: Weight = 0.0
    """Weight of the student's own loss on the reference translations."""
    loss: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The losses by name. Each has `_target_` (the class), `weight` (default 1) and the arguments of the class."""
    allowed_targets: list[str] = Field(default_factory=list)
    """Prefixes that the `_target_` of a loss may have besides `nemo_distill.losses.`."""
    fused: bool = True
    """Compute losses on distributions for a few tokens at a time, to save memory. Applies where the loss and the model
    support it."""
    compile: str | None = None
    """The `torch.compile` backend for teacher and student during training, such as `inductor`; null: none."""

    def problems(self) -> list[str]:
        """Returns the problems of this section, one sentence each."""
        problems = []
        if isinstance(self.temperature, Schedule):
            problems += [
                f"temperature.{key}={value:g}: must be above 0."
                for key, value in (("start", self.temperature.start), ("end", self.temperature.end))
                if value == 0
            ]
        teachers = len(self.teachers)
        if self.teacher_weights is not None and len(self.teacher_weights) != teachers:
            problems.append(
                f"teacher_weights={self.teacher_weights}: must be null or a number above 0 for each of the "
                f"{teachers} teachers."
            )
        return problems + _compile_problems(self.compile)

    def term_problems(self, losses: Sequence[tuple[str, nn.Module]]) -> list[str]:
        """Returns what is wrong with the losses, given by their names; sentences that begin with a key."""
        return []

    @property
    def teachers(self) -> list[str]:
        """The teachers' `.nemo` files or folders."""
        return [self.model_path] if isinstance(self.model_path, str) else list(self.model_path or ())

    def why_unread(self, name: str) -> str | None:
        """Returns why losses cannot read a tensor from the teacher, without the end of the sentence; else None."""
        if self.teacher_cache and name not in CACHED_TENSORS:
            return f"a teacher cache stores only {listing(CACHED_TENSORS)}"
        if (teachers := len(self.teachers)) > 1 and not self.teacher_cache and name != AVERAGED:
            return f"with {teachers} teachers only '{AVERAGED}' can be averaged"
        return None

    @property
    def student_weight(self) -> Schedule:
        """`student_train_loss_weight` as a schedule."""
        return as_schedule(self.student_train_loss_weight)


def _compile_problems(backend: str | None) -> list[str]:
    if backend is None:  # listing them imports half of torch's compiler
        return []
    allowed = [*torch.compiler.list_backends(), "eager", "aot_eager"]  # torch does not list its two debug backends
    if backend in allowed:
        return []
    return [f"compile={backend}: must be null or one of torch.compile's {', '.join(sorted(allowed))}."]
