"""Word-level distillation by cross-entropy."""

from torch import Tensor

from nemo_distill.losses.word_level import WordLevelLoss


class CrossEntropyLoss(WordLevelLoss):
    """T² CE(q_T, p_T) = -T² Σ_v q_T(v) log p_T(v), with the teacher's distribution q and the student's p.

    From Hinton et al. 2015, section 2; applied to each target word as in Kim & Rush 2016, section 3.1.

    It has the same gradients as `KLDivergenceLoss`. Its value is larger by T² times the teacher's entropy.
    """

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        return -(teacher_log_probs.exp() * student_log_probs).sum(dim=-1)
