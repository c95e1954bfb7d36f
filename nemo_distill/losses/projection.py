"""Logits, before and after they are computed."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Projection:
    """A model's last hidden states and the matrix that makes logits of them, `hidden_states @ weight.T + bias`.

    For whoever needs the (N, V) logits of a few tokens at a time and never those of a whole batch.

    Args:
        hidden_states: (B, T, D), or (N, D) of N tokens.
        weight: (V, D).
        bias: (V,), or None.
    """

    hidden_states: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def select(self, tokens: tuple[Tensor, ...]) -> "Projection":
        """Returns the projection of some tokens, given by their indices in each of the dimensions (B, T)."""
        return Projection(self.hidden_states[tokens], self.weight, self.bias)

    def to(self, dtype: torch.dtype) -> "Projection":
        """Returns the projection with its tensors in another precision."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return Projection(self.hidden_states.to(dtype), self.weight.to(dtype), bias)

    def project(self) -> "Logits":
        """Returns the logits (..., V), in float32 where models use less."""
        logits = F.linear(self.hidden_states, self.weight, self.bias)
        return Logits(logits.to(torch.promote_types(logits.dtype, torch.float32)))

    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Returns log softmax(logits / T), (..., V)."""
        return self.project().tempered_log_probs(temperature)


@dataclass(frozen=True)
class Logits:
    """What a `Projection` comes to.

    Args:
        values: (..., V).
    """

    values: Tensor

    def select(self, tokens: tuple[Tensor, ...] | slice) -> "Logits":
        """Returns those of some tokens."""
        return Logits(self.values[tokens])

    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Returns log softmax(logits / T) (Hinton et al. 2015, eq. 1), (..., V)."""
        return torch.log_softmax(self.values if temperature == 1 else self.values / temperature, dim=-1)
