"""Word-level distillation by the Kullback-Leibler divergence from the student's side."""

import torch.nn.functional as F
from torch import Tensor

from nemo_distill.losses.word_level import WordLevelLoss


class ReverseKLDivergenceLoss(WordLevelLoss):
    """T² KL(p_T ‖ q_T), with p the student's and q the teacher's distribution of each target token.

    The student keeps to what the teacher finds probable instead of covering all of it (Gu et al. 2024, eq. 1, here for
    each token).
    """

    needs_every_word = True

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        return F.kl_div(teacher_log_probs, student_log_probs, reduction="none", log_target=True).sum(dim=-1)
