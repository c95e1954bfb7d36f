"""Distillation of hidden states by their direction."""

import torch.nn.functional as F
from torch import Tensor

from nemo_distill.losses.hidden_states import HiddenStatesLoss


class CosineEmbeddingLoss(HiddenStatesLoss):
    """1 - cos(h_student, h_teacher): the third term of DistilBERT's loss (Sanh et al. 2019, section 2).

    Between 0, the same direction, and 2, the opposite one.
    """

    def per_token(self, student_hidden_states: Tensor, teacher_hidden_states: Tensor) -> Tensor:
        return 1.0 - F.cosine_similarity(student_hidden_states, teacher_hidden_states, dim=-1)
