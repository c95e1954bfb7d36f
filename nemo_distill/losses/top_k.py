"""A teacher's distribution, reduced to its k most probable words and the total probability of the others.

The k words hold nearly all of the probability, so they are enough to store. Only the total probability of the other
words is known. The tail policy says how it is used.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from nemo_distill.losses.projection import LOG_ZERO, Distributions, Tokens

# `renormalize`: the k words share all probability, the others have probability 0. The student still uses the softmax
# over the whole vocabulary (Tan et al. 2019, arXiv 1902.10461, "Top-K distillation").
# `uniform`: the other words share the remaining probability equally.
TAILS = ("renormalize", "uniform")


@dataclass(frozen=True)
class TopK(Distributions):
    """The k most probable words at each position, at temperature 1.

    Args:
        ids: (..., k), word ids, int64, in order of decreasing probability.
        log_probs: (..., k), log-probabilities of these words, float32.
        rest: (...), log of the total probability of the other words, float32; -inf if there are none.
        vocab_size: V.
        tail: how `rest` is used, one of `TAILS`.

    Raises:
        ValueError: if the tail policy is unknown.
    """

    ids: Tensor
    log_probs: Tensor
    rest: Tensor
    vocab_size: int
    tail: str = "renormalize"

    def __post_init__(self) -> None:
        if self.tail not in TAILS:
            raise ValueError(f"tail={self.tail}: must be one of {', '.join(TAILS)}.")

    def tempered(self, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Returns the distribution at a temperature.

        It needs no logits: log softmax(logits / T) equals log softmax(log softmax(logits) / T), because softmax
        ignores a constant added to its logits (Hinton et al. 2015, eq. 1).

        Returns:
            The log-probabilities (..., k) of the k words, and the log-probability (...) of each single other word. No
            value is below `LOG_ZERO`.
        """
        log_probs = self.log_probs.clamp(min=LOG_ZERO) / temperature  # (..., k)
        others = self.vocab_size - self.log_probs.shape[-1]
        total = log_probs.logsumexp(dim=-1)  # (...)
        other = torch.full_like(total, -math.inf)  # (...), log-probability of each other word
        if self.tail == "uniform" and others:
            other = (self.rest - math.log(others)) / temperature
            total = torch.logaddexp(total, other + math.log(others))
        return (log_probs - total.unsqueeze(-1)).clamp(min=LOG_ZERO), (other - total).clamp(min=LOG_ZERO)

    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Returns the float32 log-probabilities (..., V) of all words at a temperature."""
        log_probs, other = self.tempered(temperature)
        everywhere = other.unsqueeze(-1).repeat(*[1] * other.dim(), self.vocab_size)  # (..., V)
        return everywhere.scatter_(-1, self.ids, log_probs)

    def select(self, tokens: Tokens) -> Self:
        """Returns the entries of some positions, given by their indices or a slice of the first dimension."""
        return replace(self, ids=self.ids[tokens], log_probs=self.log_probs[tokens], rest=self.rest[tokens])


def top_k_of(log_probs: Tensor, k: int, tail: str = "renormalize") -> TopK:
    """Returns the k most probable words of the log-probabilities (..., V)."""
    log_probs = log_probs.float()
    values, ids = log_probs.topk(k, dim=-1)  # (..., k)
    rest = log_probs.scatter(-1, ids, -math.inf).logsumexp(dim=-1)  # (...)
    return TopK(ids, values, rest, log_probs.shape[-1], tail)
