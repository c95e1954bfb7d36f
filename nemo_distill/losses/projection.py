"""Logits that nobody has computed yet."""

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

    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Returns log softmax(logits / T), (..., V), in float32 where models use less (Hinton et al. 2015, eq. 1)."""
        logits = F.linear(self.hidden_states, self.weight, self.bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return torch.log_softmax(logits if temperature == 1 else logits.div_(temperature), dim=-1)
