"""The frozen teachers of a distillation: one, or several whose tempered distributions are averaged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nemo_distill.core.distillation_mixin import DistillationMixin
from nemo_distill.core.loss_terms import LossTerm
from nemo_distill.core.registry import PROJECTION, DistillationRegistry, Role, consumed_tensors
from nemo_distill.losses.fused import Teacher

AVERAGED = "log_probs"  # the one name that can be averaged over teachers, as numbers or as their projection


class Teachers:
    """What the student learns from.

    It is no module, so that torch takes no notice of the teachers: they have no gradient, no optimizer, no place in
    checkpoints, and no train mode. Moving them along with the student is `apply`'s task.

    Args:
        models: restored for inference, or what plays a teacher from a teacher cache; none where no loss reads one.
        shares: of each in the average, of any sum; None for equal shares.
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
        """The teacher, or the first of several; None if there is none."""
        return self.models[0] if self.models else None

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Moves or converts all teachers' tensors, as `torch.nn.Module.to` does."""
        for model in self.models:
            model.apply_to_tensors(function)

    @torch.no_grad()
    def register(self, batch: Any, registry: DistillationRegistry) -> None:
        """Lets the teacher register what the step's losses read, or registers the average over several teachers."""
        if len(self.models) == 1:
            self._run(self.models[0], batch, registry)
            return
        of_each = [DistillationRegistry(registry.wanted, registry.temperature) for _ in self.models]
        for model, registry_of_one in zip(self.models, of_each):
            self._run(model, batch, registry_of_one)
        for name, average in ((AVERAGED, average_log_probs), (PROJECTION, AveragedTeachers)):
            if (Role.TEACHER, name) in registry.wanted:
                registered: list[Any] = [registry_of_one.get(Role.TEACHER, name) for registry_of_one in of_each]
                registry.register(Role.TEACHER, name, average(registered, self.shares))

    @staticmethod
    def _run(model: DistillationMixin, batch: Any, registry: DistillationRegistry) -> None:
        with model.distillation_pass(Role.TEACHER, registry):
            model.distillation_forward(batch)

    def problems(self, terms: Sequence[LossTerm]) -> list[str]:
        """Returns a sentence for each loss that reads of the teacher what several teachers have no average of."""
        return [
            f"distillation.loss.{term.name} reads the teacher's '{name}', "
            f"but of {len(self)} teachers only '{AVERAGED}' is averaged."
            for term in terms
            for role, name in consumed_tensors(term.loss).values()
            if len(self) > 1 and role is Role.TEACHER and name != AVERAGED
        ]


def normalized(shares: Sequence[float]) -> list[float]:
    """Returns positive numbers divided by their sum."""
    largest = max(shares, default=1.0)  # divided by it, no sum is too large for a float
    scaled = [share / largest for share in shares]
    return [share / sum(scaled) for share in scaled]


def average_log_probs(log_probs: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Returns log Σ_i w_i q_i, of log-probabilities log q_i, each (..., V), and shares w_i that sum to 1."""
    logs = torch.tensor(shares, device=log_probs[0].device, dtype=log_probs[0].dtype).log()
    return torch.logsumexp(torch.stack([one + share for one, share in zip(log_probs, logs)]), dim=0)


@dataclass(frozen=True)
class AveragedTeachers:
    """Several teachers in place of one: their distributions are averaged, a few tokens at a time.

    Args:
        teachers: the projection of each.
        shares: of each, summing to 1.
    """

    teachers: Sequence[Teacher]
    shares: Sequence[float]

    def select(self, tokens: tuple[Tensor, ...] | slice) -> "AveragedTeachers":
        """Returns that of some tokens, given by their indices in each of the dimensions (B, T)."""
        return AveragedTeachers([teacher.select(tokens) for teacher in self.teachers], self.shares)

    def to(self, dtype: torch.dtype) -> "AveragedTeachers":
        """Returns it with matrices of another precision."""
        return AveragedTeachers([teacher.to(dtype) for teacher in self.teachers], self.shares)

    def reserve(self, tokens: int) -> "AveragedTeachers":
        """Returns it with memory for the logits of so many tokens, each teacher with its own."""
        return AveragedTeachers([teacher.reserve(tokens) for teacher in self.teachers], self.shares)

    def project(self) -> "AveragedTeachers":
        """Returns it with all products of matrices done."""
        return AveragedTeachers([teacher.project() for teacher in self.teachers], self.shares)

    def tempered_log_probs(self, temperature: float) -> Tensor:
        """Returns the averages (N, V) of the tempered distributions."""
        return average_log_probs([teacher.tempered_log_probs(temperature) for teacher in self.teachers], self.shares)
