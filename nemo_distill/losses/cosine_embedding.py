"""Distillation of hidden states by cosine similarity."""

import torch.nn.functional as F
from torch import Tensor

from nemo_distill.losses.hidden_states import HiddenStatesLoss


class CosineEmbeddingLoss(HiddenStatesLoss):
    """1 - cos(h_student, h_teacher), the third term of DistilBERT's loss (Sanh et al. 2019, section 2).

    The value is between 0 (same direction) and 2 (opposite direction).
    """

    def per_token(self, student_hidden_states: Tensor, teacher_hidden_states: Tensor) -> Tensor:
        return 1.0 - F.cosine_similarity(student_hidden_states, teacher_hidden_states, dim=-1)
