"""Word-level distillation by the Kullback-Leibler divergence."""

import torch.nn.functional as F
from torch import Tensor

from nemo_distill.losses.word_level import WordLevelLoss


class KLDivergenceLoss(WordLevelLoss):
    """T² KL(q_T ‖ p_T), with the teacher's distribution q and the student's p at each target token.

    Kim & Rush 2016, section 3.1, use the cross-entropy instead. It differs from KL by the teacher's entropy, which is
    constant for the student.
    """

    def per_token(self, student_log_probs: Tensor, teacher_log_probs: Tensor) -> Tensor:
        return F.kl_div(student_log_probs, teacher_log_probs, reduction="none", log_target=True).sum(dim=-1)
