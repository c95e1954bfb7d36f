"""Word-level distillation: how far the student's distribution p is from the teacher's q, at each target token."""

import math

import torch
from torch import Tensor

from nemo_distill.losses.projection import LOG_ZERO
from nemo_distill.losses.word_level import WordLevelLoss


class KLDivergenceLoss(WordLevelLoss):
    """T² KL(q_T ‖ p_T).

    Kim & Rush 2016, section 3.1, use the cross-entropy instead. It differs from KL by the teacher's entropy, which is
    constant for the student.
    """

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        return _kl(teacher_log_probs, student_log_probs)


class CrossEntropyLoss(WordLevelLoss):
    """T² CE(q_T, p_T) = -T² Σ_v q_T(v) log p_T(v).

    From Hinton et al. 2015, section 2; applied to each target word as in Kim & Rush 2016, section 3.1.

    It has the same gradients as `KLDivergenceLoss`. Its value is larger by T² times the teacher's entropy.
    """

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        return -(teacher_log_probs.exp() * student_log_probs).sum(dim=-1)


class ReverseKLDivergenceLoss(WordLevelLoss):
    """T² KL(p_T ‖ q_T).

    It makes the student favor words that the teacher finds probable, instead of covering the whole distribution (Gu et
    al. 2024, eq. 1, applied to each token).
    """

    needs_every_word = True

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        return _kl(student_log_probs, teacher_log_probs)


class JensenShannonLoss(WordLevelLoss):
    """T² [beta KL(q ‖ m) + (1 - beta) KL(p ‖ m)] with m = beta q + (1 - beta) p (Agarwal et al. 2024, section 2).

    Divided by beta, the loss tends to the forward KL(q ‖ p) as beta goes to 0. Divided by 1 - beta, it tends to the
    reverse KL(p ‖ q) as beta goes to 1. The formula is 0 at beta 0 and 1, so these limits are used there.

    Args:
        beta: between 0 and 1; 0.5 is the symmetric Jensen-Shannon divergence.
        scale_by_temperature_squared: False omits the factor T².
        log_probs: the name under which the models register log-probabilities.

    Raises:
        ValueError: if beta is outside [0, 1].
    """

    def __init__(self, beta: float = 0.5, scale_by_temperature_squared: bool = True, log_probs: str = "log_probs"):
        super().__init__(scale_by_temperature_squared, log_probs)
        if not 0 <= beta <= 1:
            raise ValueError(f"beta={beta}: must be at least 0 and at most 1.")
        self.beta = beta
        self.needs_every_word = beta == 1

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        if self.beta == 0:
            return _kl(teacher_log_probs, student_log_probs)
        if self.beta == 1:
            return _kl(student_log_probs, teacher_log_probs)
        mixture = torch.logaddexp(
            teacher_log_probs + math.log(self.beta), student_log_probs + math.log1p(-self.beta)
        )  # (B, T, V)
        forward, reverse = _kl(teacher_log_probs, mixture), _kl(student_log_probs, mixture)
        return self.beta * forward + (1 - self.beta) * reverse


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) at each position (B, T). A word that p gives no probability contributes 0."""
    return (log_p.exp() * (log_p.clamp(min=LOG_ZERO) - log_q)).sum(dim=-1)
