"""Gradients of word-level losses, and of the loss on the reference translations, in closed form, without autograd.

Unless stated otherwise, each function takes the loss and the log-probabilities (N, V) of student (p) and teacher (q)
at temperature T. It returns the loss (N,) of each token and the gradient (N, V) with respect to the student's logits
divided by T.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_distill.losses.divergences import (
    CrossEntropyLoss,
    JensenShannonLoss,
    KLDivergenceLoss,
    ReverseKLDivergenceLoss,
)
from nemo_distill.losses.top_k import TopK
from nemo_distill.losses.word_level import WordLevelLoss

LossesAndGradients = tuple[Tensor, Tensor]  # losses (N,) and gradients (N, V)


@dataclass(frozen=True)
class SmoothedLabels:
    """Negative log-likelihood with label smoothing: -(1 - s) log p(y) - s/V Σ_v log p(v).

    s = label_smoothing · V / (V - 1), so that each word other than the reference has the target probability
    label_smoothing / (V - 1) (Szegedy et al. 2016, section 7; the same as NeMo's `SmoothedCrossEntropyLoss`). p is
    always at temperature 1.

    Args:
        ids: (B, T), or (N,) for N tokens.
        label_smoothing: 0 gives the plain negative log-likelihood.
    """

    ids: Tensor
    label_smoothing: float = 0.0

    def select(self, tokens: tuple[Tensor, ...] | slice) -> "SmoothedLabels":
        """Returns the labels of some tokens, given by their indices in the dimensions (B, T)."""
        return SmoothedLabels(self.ids[tokens], self.label_smoothing)

    def per_token(self, log_probs: Tensor) -> Tensor:
        """Returns the loss (N,) of each token, from log-probabilities (N, V)."""
        share = self._share(log_probs)
        label_log_probs = log_probs.gather(-1, self.ids.unsqueeze(-1)).squeeze(-1)
        return -(1 - share) * label_log_probs - (share * log_probs.mean(dim=-1) if share else 0)

    def gradient(self, log_probs: Tensor) -> Tensor:
        """Returns the gradient (N, V) of the losses with respect to the logits."""
        share = self._share(log_probs)
        gradient = log_probs.exp().sub_(share / log_probs.shape[-1])
        ids = self.ids.unsqueeze(-1)
        return gradient.scatter_add_(-1, ids, gradient.new_full(ids.shape, share - 1))

    def _share(self, log_probs: Tensor) -> float:
        words = log_probs.shape[-1]
        return self.label_smoothing * words / (words - 1)


def differentiate(loss: WordLevelLoss, student: Tensor, teacher: Tensor) -> LossesAndGradients:
    """Returns `loss.per_token` and its gradient, in closed form if there is one, otherwise by autograd."""
    return CLOSED_FORMS.get(type(loss), by_autograd)(loss, student, teacher)


def by_autograd(loss: WordLevelLoss, student: Tensor, teacher: Tensor) -> LossesAndGradients:
    """Differentiates any loss by autograd."""
    with torch.enable_grad():
        leaf = student.detach().requires_grad_()
        values = loss.per_token(leaf, teacher)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient - student.exp() * gradient.sum(dim=-1, keepdim=True)


def _kl(loss: WordLevelLoss, student: Tensor, teacher: Tensor) -> LossesAndGradients:
    """The gradient is p - q (Hinton et al. 2015, eq. 2)."""
    q = teacher.exp()
    return (teacher - student).mul_(q).sum(dim=-1), student.exp().sub_(q)


def _cross_entropy(loss: WordLevelLoss, student: Tensor, teacher: Tensor) -> LossesAndGradients:
    """The gradient is p - q, the same as for KL."""
    q = teacher.exp()
    return -(student * q).sum(dim=-1), student.exp().sub_(q)


def _jensen_shannon(loss: JensenShannonLoss, student: Tensor, teacher: Tensor) -> LossesAndGradients:
    """The gradient is (1 - beta) p (log p - log m - KL(p ‖ m)).

    The gradient through the mixture m cancels out, because the probabilities of m sum to 1.
    """
    if loss.beta in (0, 1):
        return (_kl if loss.beta == 0 else _reverse_kl)(loss, student, teacher)
    mixture = torch.logaddexp(teacher + math.log(loss.beta), student + math.log1p(-loss.beta))
    reverse, gradient = _reverse_kl(loss, student, mixture)
    forward = (teacher - mixture).mul_(teacher.exp()).sum(dim=-1)
    return loss.beta * forward + (1 - loss.beta) * reverse, gradient.mul_(1 - loss.beta)


def _reverse_kl(loss: WordLevelLoss, student: Tensor, teacher: Tensor) -> LossesAndGradients:
    """The gradient is p (log p - log q - KL(p ‖ q))."""
    p, distance = student.exp(), student - teacher
    values = (p * distance).sum(dim=-1)
    return values, distance.sub_(values.unsqueeze(-1)).mul_(p)


def cross_entropy_with_top_k(student: Tensor, teacher: TopK, temperature: float) -> LossesAndGradients:
    """Like `_cross_entropy`, for a teacher that stores k words and gives each other word the same probability o.

    -Σ_v q(v) log p(v) = -Σ_k (q_k - o) log p_k - o Σ_v log p(v).
    """
    log_probs, other = (logs.to(student.dtype) for logs in teacher.tempered(temperature))
    q, others = log_probs.exp(), other.exp().unsqueeze(-1)
    values = -((q - others) * student.gather(-1, teacher.ids)).sum(dim=-1)
    gradient = student.exp().scatter_add_(-1, teacher.ids, others - q)
    if teacher.tail == "uniform":
        return values - others.squeeze(-1) * student.sum(dim=-1), gradient.sub_(others)
    return values, gradient


def kl_with_top_k(student: Tensor, teacher: TopK, temperature: float) -> LossesAndGradients:
    """The cross-entropy minus the teacher's entropy, which is constant for the student."""
    values, gradient = cross_entropy_with_top_k(student, teacher, temperature)
    log_probs, other = (logs.to(student.dtype) for logs in teacher.tempered(temperature))
    num_others = teacher.vocab_size - log_probs.shape[-1]
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1) - num_others * other.exp() * other
    return values - entropy, gradient


# Looked up by exact type, because a subclass may override `per_token` and then has another gradient.
CLOSED_FORMS: Mapping[type, Callable[..., LossesAndGradients]] = {
    KLDivergenceLoss: _kl,
    CrossEntropyLoss: _cross_entropy,
    ReverseKLDivergenceLoss: _reverse_kl,
    JensenShannonLoss: _jensen_shannon,
}
# These read only the teacher's k stored words. Their arguments are student log_probs (N, V), a `TopK` and T.
TOP_K_FORMS: Mapping[type, Callable[..., LossesAndGradients]] = {
    KLDivergenceLoss: kl_with_top_k,
    CrossEntropyLoss: cross_entropy_with_top_k,
}
