"""The frozen teachers: a single one, or several whose distributions are averaged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from nemo_distill.config.checks import listing
from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.core.distillation_section import AVERAGED
from nemo_distill.core.loss_terms import LossTerm
from nemo_distill.core.registry import PROJECTION, DistillationRegistry, Role, consumed_tensors
from nemo_distill.losses.projection import Distributions, Tokens


class Teachers:
    """The frozen teachers of a distillation.

    This is not an `nn.Module`, so that torch ignores the teachers: they have no gradients, no optimizer state and no
    train mode, and checkpoints do not contain them. `apply` moves them to the student's device.

    Args:
        models: teachers restored for inference, or a cached teacher; empty if no loss reads a teacher.
        shares: the weight of each teacher in the average. They need not sum to 1. None: equal weights.
    """

    def __init__(self, models: Sequence[DistillationMixin], shares: Sequence[float] | None = None):
        self.models = list(models)
        self.shares = normalized(shares or [1.0] * len(self.models))

    def __iter__(self) -> Iterator[DistillationMixin]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    @property
    def first(self) -> Any:
        """The first teacher, or None if there is none."""
        return self.models[0] if self.models else None

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Moves or converts the tensors of all teachers, as `torch.nn.Module.to` does."""
        for model in self.models:
            model._apply(function)

    @torch.no_grad()
    def register(self, batch: Any, registry: DistillationRegistry) -> None:
        """Registers what the losses read from the teacher. Averages the distributions of several teachers."""
        if len(self.models) == 1:
            self._run(self.models[0], batch, registry)
            return
        registries = [DistillationRegistry(registry.wanted, registry.temperature) for _ in self.models]
        for model, own_registry in zip(self.models, registries):
            self._run(model, batch, own_registry)
            if own_registry.pairs is not None:
                registry.register_pairs(own_registry.pairs)
        for name, average in ((AVERAGED, average_log_probs), (PROJECTION, AveragedTeachers)):
            if (Role.TEACHER, name) in registry.wanted:
                registered: list[Any] = [own_registry.get(Role.TEACHER, name) for own_registry in registries]
                registry.register(Role.TEACHER, name, average(registered, self.shares))

    @staticmethod
    def _run(model: DistillationMixin, batch: Any, registry: DistillationRegistry) -> None:
        with model.distillation_pass(Role.TEACHER, registry):
            model.distillation_forward(batch)

    def problems(self, terms: Sequence[LossTerm]) -> list[str]:
        """Returns a sentence for each tensor that a loss reads and a teacher does not have."""
        return [
            f"distillation.loss.{term.name} reads the teacher's '{name}', but this teacher has only "
            f"{listing(teacher.distillation_tensors)}."
            for teacher in self
            for term in terms
            for role, name in consumed_tensors(term.loss).values()
            if role is Role.TEACHER and name not in teacher.distillation_tensors
        ]


def normalized(shares: Sequence[float]) -> list[float]:
    """Returns positive numbers divided by their sum."""
    largest = max(shares, default=1.0)  # scaled by it, so that the sum cannot overflow
    scaled = [share / largest for share in shares]
    return [share / sum(scaled) for share in scaled]


def average_log_probs(log_probs: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Returns log Σ_i w_i q_i for log-probabilities log q_i of shape (..., V) and weights w_i that sum to 1."""
    logs = torch.tensor(shares, device=log_probs[0].device, dtype=log_probs[0].dtype).log()
    return torch.logsumexp(torch.stack([one + share for one, share in zip(log_probs, logs)]), dim=0)


@dataclass(frozen=True)
class AveragedTeachers(Distributions):
    """The average of the distributions of several teachers.

    Args:
        teachers: the distributions of each teacher.
        shares: the weight of each teacher. They sum to 1.
    """

    teachers: Sequence[Distributions]
    shares: Sequence[float]

    def select(self, tokens: Tokens) -> Self:
        return self._each(lambda teacher: teacher.select(tokens))

    def to(self, dtype: torch.dtype) -> Self:
        return self._each(lambda teacher: teacher.to(dtype))

    def reserve(self, tokens: int) -> Self:
        return self._each(lambda teacher: teacher.reserve(tokens))

    def project(self) -> Self:
        return self._each(lambda teacher: teacher.project())

    def _each(self, change: Callable[[Distributions], Distributions]) -> Self:
        return replace(self, teachers=[change(teacher) for teacher in self.teachers])

    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        return average_log_probs([teacher.tempered_log_probs(temperature) for teacher in self.teachers], self.shares)
