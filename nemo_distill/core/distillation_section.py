"""The section `distillation` of a student's configuration, as far as every kind of model has it."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from nemo_distill.config.schedule import Schedule, Weight, as_schedule
from nemo_distill.config.section import section


@section
class DistillationSection:
    """What a student learns from: its teachers, and the losses that compare it with them."""

    model_path: str | list[str] | None = None
    """The teacher's `.nemo`, or a list of several, whose distributions are averaged."""
    teacher_weights: list[Annotated[float, Field(gt=0)]] | None = None
    """Of several teachers, the share of each in the average; null: equal shares."""
    teacher_cache: str | None = None
    """A folder made by `cache`, with what a teacher said of the training data; then no teacher is loaded."""
    teacher_cache_tail: Literal["renormalize", "uniform"] = "renormalize"
    """What becomes of the words that a cache does not keep: `renormalize` gives the kept words all probability (Tan et
    al. 2019); `uniform` gives the others the rest in equal parts."""
    teacher_precision: Literal["bfloat16"] | None = None
    """The precision of the teachers' weights while they run; null: float32, also of a file in half precision."""
    temperature: Annotated[float, Field(gt=0)] | Schedule = 1.0
    """Divides the logits of teacher and student before their softmax (Hinton et al. 2015, eq. 1)."""
    student_train_loss_weight: Weight = 0.0
    """Weight of the student's own loss against the references."""
    loss: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The losses by name: `_target_`, the class; `weight` (default 1); and the class's arguments."""
    allowed_targets: list[str] = Field(default_factory=list)
    """What a loss's `_target_` may begin with besides `nemo_distill.losses.`."""
    fused: bool = True
    """Compute losses on distributions a few tokens at a time, without whole log-probabilities, where loss and model
    can."""
    compile: str | None = None
    """A backend of `torch.compile` for teacher and student while they train, such as `inductor`."""

    def problems(self) -> list[str]:
        """Returns a sentence for each rule that a value or several break."""
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

    @property
    def teachers(self) -> list[str]:
        """The teachers' `.nemo` files."""
        return [self.model_path] if isinstance(self.model_path, str) else list(self.model_path or ())

    @property
    def student_weight(self) -> Schedule:
        """`student_train_loss_weight` as a schedule."""
        return as_schedule(self.student_train_loss_weight)


def _compile_problems(backend: str | None) -> list[str]:
    allowed = [*torch.compiler.list_backends(), "eager", "aot_eager"]  # torch hides these two, which are for tests
    if backend is None or backend in allowed:
        return []
    return [f"compile={backend}: must be null or one of torch.compile's {', '.join(sorted(allowed))}."]
