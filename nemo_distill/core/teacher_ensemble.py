"""Several teachers that speak as one: their tempered distributions are averaged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_distill.config.plain_types import fits
from nemo_distill.core.loss_terms import LossTerm
from nemo_distill.core.registry import Role, consumed_tensors
from nemo_distill.losses.fused import Teacher

AVERAGED = "log_probs"  # the one name that can be averaged over teachers, as numbers or as their projection


def teacher_paths(model_path: str | Sequence[str]) -> list[str]:
    """Returns the `.nemo` files that `distillation.model_path` names: one, or a list of them."""
    return [model_path] if isinstance(model_path, str) else list(model_path)


def teacher_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """Returns each teacher's share in the average, summing to 1; None shares equally.

    Raises:
        ValueError: if there are not as many positive numbers as teachers.
    """
    if weights is None:
        return [1.0 / count] * count
    numbers = weights if fits(weights, list) else ()
    if len(numbers) != count or not all(fits(number, float) and 0 < number < math.inf for number in numbers):
        raise ValueError(f"has teacher_weights={weights}; {count} numbers above 0 are needed, one a teacher")
    largest = max(numbers)  # divided by it, no sum is too large for a float
    shares = [number / largest for number in numbers]
    return [share / sum(shares) for share in shares]


def average_log_probs(log_probs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Returns log Σ_i w_i q_i, of log-probabilities log q_i, each (..., V), and shares w_i that sum to 1."""
    shares = torch.tensor(weights, device=log_probs[0].device, dtype=log_probs[0].dtype).log()
    return torch.logsumexp(torch.stack([logs + share for logs, share in zip(log_probs, shares)]), dim=0)


@dataclass(frozen=True)
class AveragedTeachers:
    """Several teachers in place of one: their distributions are averaged, a few tokens at a time.

    Args:
        teachers: the projection of each.
        weights: the share of each, summing to 1.
    """

    teachers: Sequence[Teacher]
    weights: Sequence[float]

    def select(self, tokens: tuple[Tensor, ...] | slice) -> "AveragedTeachers":
        """Returns that of some tokens, given by their indices in each of the dimensions (B, T)."""
        return AveragedTeachers([teacher.select(tokens) for teacher in self.teachers], self.weights)

    def to(self, dtype: torch.dtype) -> "AveragedTeachers":
        """Returns it with matrices of another precision."""
        return AveragedTeachers([teacher.to(dtype) for teacher in self.teachers], self.weights)

    def reserve(self, tokens: int) -> "AveragedTeachers":
        """Returns it with memory for the logits of so many tokens, each teacher with its own."""
        return AveragedTeachers([teacher.reserve(tokens) for teacher in self.teachers], self.weights)

    def project(self) -> "AveragedTeachers":
        """Returns it with all products of matrices done."""
        return AveragedTeachers([teacher.project() for teacher in self.teachers], self.weights)

    def tempered_log_probs(self, temperature: float) -> Tensor:
        """Returns the averages (N, V) of the tempered distributions."""
        return average_log_probs([teacher.tempered_log_probs(temperature) for teacher in self.teachers], self.weights)


def ensemble_problems(terms: Sequence[LossTerm], count: int) -> list[str]:
    """Returns a sentence for each loss that reads of the teacher what several teachers have no average of."""
    return [
        f"distillation.loss.{term.name} reads the teacher's '{name}', "
        f"but of {count} teachers only '{AVERAGED}' is averaged."
        for term in terms
        for role, name in consumed_tensors(term.loss).values()
        if count > 1 and role is Role.TEACHER and name != AVERAGED
    ]
