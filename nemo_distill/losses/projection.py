"""Distributions over words: the output projection of a model, which yields them, and the logits that it computes."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_ZERO = -1e4  # used instead of log 0 = -inf, which leads to NaN; exp(LOG_ZERO) is 0
LOGITS_AT_ONCE = 20_000_000  # that `most_probable` keeps in memory
Tokens: TypeAlias = tuple[Tensor, ...] | slice  # indices of some tokens in the dimensions (B, T), or in (N,)


class Distributions(ABC):
    """A model's distributions over words, of which those of a few tokens at a time need to be in memory.

    `to` and `reserve` are called once for a batch, and then `select`, `project` and `tempered_log_probs` for each few
    tokens. The defaults suit distributions that need no matrix product: there is nothing to convert or to compute.
    """

    @abstractmethod
    def select(self, tokens: Tokens) -> Self:
        """Returns the distributions of some tokens."""

    @abstractmethod
    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Returns the log-probabilities (..., V) at a temperature. May overwrite the logits, so call it only once."""

    def to(self, dtype: torch.dtype) -> Self:
        """Returns the distributions with matrices in another precision."""
        return self

    def reserve(self, tokens: int) -> Self:
        """Returns the distributions with memory for the logits of `tokens` tokens, which `project` overwrites."""
        return self

    def project(self) -> "Distributions":
        """Returns the distributions with their logits computed."""
        return self


@dataclass(frozen=True)
class Projection(Distributions):
    """Hidden states and the output matrix, before they are multiplied: logits = `hidden_states @ weight.T + bias`.

    It allows to compute the (N, V) logits for a few tokens at a time instead of the whole batch.

    Args:
        hidden_states: (B, T, D), or (N, D) for N tokens.
        weight: (V, D).
        bias: (V,), or None. Words of bias -inf, which a model never generates, get the logit of `LOG_ZERO` instead.
        memory: (M, V), reused by `project` for the logits of up to M tokens; None allocates a new tensor each time.
    """

    hidden_states: Tensor
    weight: Tensor
    bias: Tensor | None = None
    memory: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """The shape (..., V) of the logits."""
        return torch.Size((*self.hidden_states.shape[:-1], len(self.weight)))

    def select(self, tokens: Tokens) -> Self:
        """Returns the projection of some tokens, given by their indices in the dimensions (B, T)."""
        return replace(self, hidden_states=self.hidden_states[tokens])

    def to(self, dtype: torch.dtype) -> Self:
        """Returns the projection with its tensors in another precision."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return replace(self, hidden_states=self.hidden_states.to(dtype), weight=self.weight.to(dtype), bias=bias)

    def reserve(self, tokens: int) -> Self:
        """Returns a projection with memory for the logits of `tokens` tokens. Each call of `project` overwrites it.

        Allocating this memory for each chunk would take as long as a softmax.
        """
        precision = torch.promote_types(self.weight.dtype, torch.float32)
        return replace(self, memory=self.weight.new_empty((tokens, len(self.weight)), dtype=precision))

    def project(self) -> "Logits":
        """Returns the logits (..., V), in at least float32."""
        bias = None if self.bias is None else self.bias.clamp(min=LOG_ZERO)
        if self.memory is None:
            logits = F.linear(self.hidden_states, self.weight, bias)
            return Logits(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        logits = self.memory[: len(self.hidden_states)]
        if logits.dtype != self.weight.dtype:
            return Logits(logits.copy_(F.linear(self.hidden_states, self.weight, bias)))
        if bias is None:
            return Logits(torch.mm(self.hidden_states, self.weight.t(), out=logits))
        return Logits(torch.addmm(bias, self.hidden_states, self.weight.t(), out=logits))

    @torch.no_grad()
    def most_probable(self, words: int) -> Tensor:
        """Returns the id (...) of the most probable of the first `words` words at each position."""
        weight, bias = self.weight[:words], None if self.bias is None else self.bias[:words]
        states = self.hidden_states.flatten(0, -2).split(max(1, LOGITS_AT_ONCE // words))
        best = [F.linear(some, weight, bias).argmax(dim=-1) for some in states]
        return torch.cat(best).view(self.hidden_states.shape[:-1])

    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Returns log softmax(logits / T) (Hinton et al. 2015, eq. 1), (..., V)."""
        return torch.log_softmax(self.project().values / temperature, dim=-1)


@dataclass(frozen=True)
class Logits(Distributions):
    """The logits that a `Projection` yields.

    Args:
        values: (..., V).
    """

    values: Tensor

    @property
    def shape(self) -> torch.Size:
        """The shape (..., V) of the logits."""
        return self.values.shape

    def select(self, tokens: Tokens) -> Self:
        """Returns the logits of some tokens. A slice yields a view."""
        return replace(self, values=self.values[tokens])

    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Returns log softmax(logits / T) (..., V) (Hinton et al. 2015, eq. 1). Overwrites the logits."""
        values = self.values if temperature == 1 else self.values.div_(temperature)
        return values.sub_(values.logsumexp(dim=-1, keepdim=True))
