"""Distillation of attention maps."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nemo_distill.losses.layer_map import LayerMap, layer_pairs
from nemo_distill.losses.reduction import masked_mean

SMALLEST_PROBABILITY = 1e-7  # avoids log 0 at masked keys


class AttentionMapsLoss(nn.Module):
    """KL(A_teacher ‖ A_student) of the attention of each query, averaged over heads and layer pairs.

    From Wang et al. 2020, section 3.1. If the models have different numbers of heads, each model's attention is first
    averaged over its heads.

    Args:
        attention_maps: the name under which the models register the maps.
        layers: the layers to compare; see `layer_pairs`.
    """

    def __init__(self, attention_maps: str = "decoder_cross_attention", layers: LayerMap = "uniform"):
        super().__init__()
        self.consumes = {"attention_maps": attention_maps}
        self.layers = layers

    def prepare(self, student_heads: Sequence[int], teacher_heads: Sequence[int]) -> None:
        """Checks that the layers can be paired. The arguments are the number of heads of each layer.

        Raises:
            ValueError: if the layers cannot be paired.
        """
        pairs = layer_pairs(self.layers, len(student_heads), len(teacher_heads))
        if any(0 in pair for pair in pairs):
            raise ValueError(
                f"layers={self.layers}: pairs layer 0, the embeddings, which have no attention; count layers from 1."
            )

    def forward(
        self,
        student_attention_maps: Sequence[Tensor],
        teacher_attention_maps: Sequence[Tensor],
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns the mean over the unmasked queries.

        Args:
            student_attention_maps: for each layer, the probabilities (B, H, T, S) of S keys for each of T queries.
            teacher_attention_maps: the same for the teacher.
            mask: (B, T), true at real queries; None counts every position.
        """
        pairs = layer_pairs(self.layers, len(student_attention_maps), len(teacher_attention_maps))
        distances = [
            masked_mean(_divergence(student_attention_maps[ours - 1], teacher_attention_maps[theirs - 1]), mask)
            for ours, theirs in pairs
        ]
        return sum(distances) / len(distances)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the KL divergence (B, T) of each query, from attention maps (B, H, T, S)."""
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(dim=1, keepdim=True), teacher.mean(dim=1, keepdim=True)
    log_student, log_teacher = (maps.float().clamp(min=SMALLEST_PROBABILITY).log() for maps in (student, teacher))
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1).mean(dim=1)
