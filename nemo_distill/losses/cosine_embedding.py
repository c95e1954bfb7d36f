"""Distillation of hidden states by their direction."""

import torch.nn.functional as F
from torch import Tensor, nn

from nemo_distill.losses.reduction import masked_mean


class CosineEmbeddingLoss(nn.Module):
    """1 - cos(h_student, h_teacher) at each position: the third term of DistilBERT's loss (Sanh et al. 2019, sec. 3).

    Args:
        hidden_states: the name under which the hidden states are registered.
    """

    # Both sides of the comparison must have the same width.
    needs_equal_widths = True

    def __init__(self, hidden_states: str = "decoder_hidden_states"):
        super().__init__()
        self.consumes = {"hidden_states": hidden_states}

    def forward(
        self, student_hidden_states: Tensor, teacher_hidden_states: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Returns the mean over real tokens, between 0 (same direction) and 2 (opposite).

        Args:
            student_hidden_states: (B, T, D).
            teacher_hidden_states: (B, T, D).
            mask: (B, T), true at real tokens; None counts every position.
        """
        similarity = F.cosine_similarity(student_hidden_states, teacher_hidden_states, dim=-1)  # (B, T)
        return masked_mean(1.0 - similarity, mask)
