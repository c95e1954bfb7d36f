"""Distillation across vocabularies by the likelihood of spans of text."""

import torch
from torch import Tensor, nn

from nemo_distill.losses.reduction import masked_mean

EPSILON = 1e-6  # subtracted from log-likelihoods, because log(1 - p) is infinite at p = 1


class SpanLikelihoodLoss(nn.Module):
    """Compares how likely teacher and student find each span of the target, whatever pieces it consists of.

    A span is the text between two neighboring positions that both segmentations have. With the likelihoods q of the
    teacher and p of the student, the loss is the mean over spans of τ times the KL divergence between the Bernoulli
    distributions with q^(1/τ) and p^(1/τ) (Minixhofer et al. 2025, Approximate Likelihood Matching, without their
    debiasing of spans). The factor τ keeps the size of the loss when τ changes.

    Args:
        tau: τ. The default is that of the published code.

    Raises:
        ValueError: if τ is not above 0.
    """

    def __init__(self, tau: float = 100.0):
        super().__init__()
        if tau <= 0:
            raise ValueError(f"tau={tau}: must be above 0.")
        self.consumes = {"nll": "nll", "spans": "spans"}
        self.tau = tau

    def forward(self, student_nll: Tensor, teacher_spans: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Returns the mean over the spans of a batch; 0 if there are none.

        Args:
            student_nll: (B, T), NLL of the target pieces.
            teacher_spans: the log-likelihoods (B, C) of spans, and the number (B, T) of the span that each target
                piece belongs to, -1 for none.
            mask: (B, T), true at real target pieces, or the weight of their pair there; None counts every position.
        """
        teacher, span_of = teacher_spans
        if mask is not None:
            span_of = span_of.masked_fill(~mask.bool(), -1)
        pieces = span_sums(torch.ones_like(student_nll, dtype=torch.float32), span_of, teacher.shape[1])  # (B, C)
        student = span_sums(-student_nll.float(), span_of, teacher.shape[1])  # (B, C)
        counted = pieces > 0 if mask is None else (pieces > 0) * mask.amax(dim=1, keepdim=True)  # (B, C)
        return masked_mean(self._divergence(student, teacher.float()), counted)

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns τ KL (B, C), from log-likelihoods (B, C)."""
        p, q = (values.clamp(max=0) / self.tau - EPSILON for values in (student, teacher))
        not_p, not_q = ((-torch.expm1(values)).log() for values in (p, q))
        return self.tau * (q.exp() * (q - p) + not_q.exp() * (not_q - not_p))


def span_sums(values: Tensor, span_of: Tensor, spans: int) -> Tensor:
    """Returns (B, C), the sum of the values (B, T) of each span.

    Args:
        values: (B, T).
        span_of: (B, T), the number of the span that a position belongs to, -1 for none.
        spans: C.
    """
    sums = values.new_zeros((len(values), spans + 1))
    return sums.scatter_add(1, span_of + 1, values)[:, 1:]
