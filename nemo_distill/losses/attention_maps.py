"""Distillation of where the models look."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nemo_distill.losses.layer_map import LayerMap, layer_pairs
from nemo_distill.losses.reduction import masked_mean

SMALLEST_PROBABILITY = 1e-7  # of a key that a mask hides


class AttentionMapsLoss(nn.Module):
    """KL(A_teacher ‖ A_student) of each real query's attention, averaged over heads and pairs of layers.

    Wang et al. 2020, section 3.1.

    Where the numbers of heads differ, each model's distributions are averaged over its heads first.

    Args:
        attention_maps: the name under which the maps are registered.
        layers: which layers are compared; see `layer_pairs`.
    """

    def __init__(self, attention_maps: str = "decoder_cross_attention", layers: LayerMap = "uniform"):
        super().__init__()
        self.consumes = {"attention_maps": attention_maps}
        self.layers = layers

    def prepare(self, student_heads: Sequence[int], teacher_heads: Sequence[int]) -> None:
        """Refuses layers that cannot be paired, once both models are known; takes the heads of each layer.

        Raises:
            ValueError: if the layers cannot be paired as asked.
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
        """Returns the mean over real queries.

        Args:
            student_attention_maps: of each layer, probabilities (B, H, T, S) of T queries over S keys.
            teacher_attention_maps: likewise.
            mask: (B, T), true at real queries; None counts every one.
        """
        pairs = layer_pairs(self.layers, len(student_attention_maps), len(teacher_attention_maps))
        distances = [
            masked_mean(_divergence(student_attention_maps[ours - 1], teacher_attention_maps[theirs - 1]), mask)
            for ours, theirs in pairs
        ]
        return sum(distances) / len(distances)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of each query (B, T), from maps (B, H, T, S)."""
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(dim=1, keepdim=True), teacher.mean(dim=1, keepdim=True)
    log_student, log_teacher = (maps.float().clamp(min=SMALLEST_PROBABILITY).log() for maps in (student, teacher))
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1).mean(dim=1)
