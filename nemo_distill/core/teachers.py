"""The frozen teachers: a single one, or several whose distributions are averaged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nemo_distill.config.checks import listing
from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.core.loss_terms import LossTerm
from nemo_distill.core.registry import LOG_PROBS, PROJECTION, DistillationRegistry, Role, consumed_tensors
from nemo_distill.losses.fused import TeacherDistributions

AVERAGED = LOG_PROBS  # the only tensor that several teachers can provide, as values or through their projections


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
            model.apply_to_tensors(function)

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
        """Returns a sentence for each teacher tensor that a loss reads and no teacher, or no average of them, has."""
        read = [
            (f"distillation.loss.{term.name} reads the teacher's '{name}'", name)
            for term in terms
            for role, name in consumed_tensors(term.loss).values()
            if role is Role.TEACHER
        ]
        if len(self) > 1:
            averaged = f"with {len(self)} teachers only '{AVERAGED}' can be averaged"
            return [f"{said}, but {averaged}." for said, name in read if name != AVERAGED]
        return [
            f"{said}, but this teacher has only {listing(teacher.distillation_tensors)}."
            for teacher in self
            for said, name in read
            if name not in teacher.distillation_tensors
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
class AveragedTeachers:
    """Averages the distributions of several teachers for a few tokens at a time.

    Args:
        teachers: the projection of each teacher.
        shares: the weight of each teacher. They sum to 1.
    """

    teachers: Sequence[TeacherDistributions]
    shares: Sequence[float]

    def select(self, tokens: tuple[Tensor, ...] | slice) -> "AveragedTeachers":
        """Returns the teachers of some tokens, given by their indices in the dimensions (B, T)."""
        return AveragedTeachers([teacher.select(tokens) for teacher in self.teachers], self.shares)

    def to(self, dtype: torch.dtype) -> "AveragedTeachers":
        """Returns the teachers with matrices in another precision."""
        return AveragedTeachers([teacher.to(dtype) for teacher in self.teachers], self.shares)

    def reserve(self, tokens: int) -> "AveragedTeachers":
        """Returns the teachers, each with its own memory for the logits of `tokens` tokens."""
        return AveragedTeachers([teacher.reserve(tokens) for teacher in self.teachers], self.shares)

    def project(self) -> "AveragedTeachers":
        """Returns the teachers with their logits computed."""
        return AveragedTeachers([teacher.project() for teacher in self.teachers], self.shares)

    def tempered_log_probs(self, temperature: float) -> Tensor:
        """Returns the average (N, V) of the teachers' distributions at a temperature, as log-probabilities."""
        return average_log_probs([teacher.tempered_log_probs(temperature) for teacher in self.teachers], self.shares)
