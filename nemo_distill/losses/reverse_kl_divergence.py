"""Word-level distillation by the reverse Kullback-Leibler divergence."""

import torch.nn.functional as F
from torch import Tensor

from nemo_distill.losses.word_level import WordLevelLoss


class ReverseKLDivergenceLoss(WordLevelLoss):
    """T² KL(p_T ‖ q_T), with the student's distribution p and the teacher's q at each target token.

    It makes the student favor words that the teacher finds probable, instead of covering the whole distribution (Gu et
    al. 2024, eq. 1, applied to each token).
    """

    needs_every_word = True

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        return F.kl_div(teacher_log_probs, student_log_probs, reduction="none", log_target=True).sum(dim=-1)
