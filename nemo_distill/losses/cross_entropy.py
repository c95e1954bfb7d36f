"""Word-level distillation by the cross-entropy with the teacher's distribution."""

from torch import Tensor

from nemo_distill.losses.word_level import WordLevelLoss


class CrossEntropyLoss(WordLevelLoss):
    """T² CE(q_T, p_T) = -T² Σ_v q_T(v) log p_T(v), q being the teacher's distribution and p the student's.

    Hinton et al. 2015, section 2; at each target word, Kim & Rush 2016, section 3.1.

    Its gradients are those of `KLDivergenceLoss`; its value is larger by T² times the teacher's entropy.
    """

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        return -(teacher_log_probs.exp() * student_log_probs).sum(dim=-1)
