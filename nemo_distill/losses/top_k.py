"""A teacher's distribution over the vocabulary, cut down to its k most probable words and what is left over.

k words carry nearly all of the probability, so that this is what is stored of a teacher, and at a small part of the
cost. What is known of the other words is their probability together; the tail policy says what is made of it.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# `renormalize`: the k words share all of the probability and the others have none, while the student keeps its
# softmax over the whole vocabulary (Tan et al. 2019, arXiv 1902.10461, "Top-K distillation").
# `uniform`: the others have what is left over, in equal parts.
TAILS = ("renormalize", "uniform")
# Stands for log 0 where arithmetic with infinities would give NaN; its exponential is 0.
LOG_ZERO = -1e4


@dataclass(frozen=True)
class TopK:
    """The k most probable words of each position, at temperature 1.

    Args:
        ids: (..., k), the words, int64, the most probable first.
        log_probs: (..., k), their log-probabilities, float32.
        rest: (...), the log of the other words' probability together, float32; -inf where there are no others.
        vocab_size: V.
        tail: what is made of the rest, one of `TAILS`.

    Raises:
        ValueError: if there is no such tail policy.
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
        """Returns the distribution at a temperature, made of that at temperature 1.

        A softmax ignores a constant added to its logits, so that log softmax(logits / T) is
        log softmax(log softmax(logits) / T) for every T (Hinton et al. 2015, eq. 1).

        Returns:
            The log-probabilities (..., k) of the k words, and that (...) of each single other word, none of them
            below `LOG_ZERO`.
        """
        log_probs = self.log_probs / temperature  # (..., k)
        others = self.vocab_size - self.log_probs.shape[-1]
        total = log_probs.logsumexp(dim=-1)  # (...)
        other = torch.full_like(total, -math.inf)  # (...), one other word
        if self.tail == "uniform" and others:
            other = (self.rest - math.log(others)) / temperature
            total = torch.logaddexp(total, other + math.log(others))
        return (log_probs - total.unsqueeze(-1)).clamp(min=LOG_ZERO), (other - total).clamp(min=LOG_ZERO)

    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Returns the log-probabilities (..., V) of all words at a temperature, float32."""
        log_probs, other = self.tempered(temperature)
        everywhere = other.unsqueeze(-1).repeat(*[1] * other.dim(), self.vocab_size)  # (..., V)
        return everywhere.scatter_(-1, self.ids, log_probs)

    def select(self, tokens: Tensor | slice) -> "TopK":
        """Returns those of some positions: where a mask is true, or a slice of the first dimension."""
        return replace(self, ids=self.ids[tokens], log_probs=self.log_probs[tokens], rest=self.rest[tokens])

    def to(self, dtype: torch.dtype) -> "TopK":
        """Returns itself: there is no matrix product whose precision could be lower."""
        return self

    def reserve(self, tokens: int) -> "TopK":
        """Returns itself: it has no logits."""
        return self

    def project(self) -> "TopK":
        """Returns itself, likewise."""
        return self


def top_k_of(log_probs: Tensor, k: int, tail: str = "renormalize") -> TopK:
    """Returns the k most probable words of log-probabilities (..., V)."""
    log_probs = log_probs.float()
    values, ids = log_probs.topk(k, dim=-1)  # (..., k)
    rest = log_probs.scatter(-1, ids, -math.inf).logsumexp(dim=-1)  # (...)
    return TopK(ids, values, rest, log_probs.shape[-1], tail)
