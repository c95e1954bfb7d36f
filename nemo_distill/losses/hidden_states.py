"""Distillation of hidden states."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nemo_distill.losses.layer_map import LayerMap, layer_pairs
from nemo_distill.losses.reduction import masked_mean


class HiddenStatesLoss(nn.Module, ABC):
    """A distance between hidden states, averaged over real tokens and over layer pairs.

    If the two layers of a pair have different widths, a learned linear map projects the student's states to the
    teacher's width (Jiao et al. 2020, eq. 8). The map belongs to the loss: it is saved in checkpoints, but not in the
    student's `.nemo`.

    Args:
        hidden_states: the name under which the models register the states, either of the last layer or of all layers.
        layers: the layers to compare if all are registered; see `layer_pairs`.
        include_embeddings: also compare the input of the first layer, if all layers are registered.
    """

    def __init__(
        self,
        hidden_states: str = "decoder_hidden_states",
        layers: LayerMap = "uniform",
        include_embeddings: bool = False,
    ):
        super().__init__()
        self.consumes = {"hidden_states": hidden_states}
        self.layers, self.include_embeddings = layers, include_embeddings
        self.projections = nn.ModuleList()  # none: the widths are equal

    def prepare(self, student_widths: Sequence[int], teacher_widths: Sequence[int]) -> None:
        """Creates the projections. A loss that is not prepared compares layers of equal width.

        Args:
            student_widths: the width D of each registered tensor: a single one for the last layer, or those of the
                embeddings and of each layer.
            teacher_widths: the same for the teacher.

        Raises:
            ValueError: if the layers cannot be paired, or are chosen where there is only the last one.
        """
        if len(student_widths) == 1:
            chosen = {"layers": (self.layers, "uniform"), "include_embeddings": (self.include_embeddings, False)}
            if unread := [f"{key}={value}" for key, (value, default) in chosen.items() if value != default]:
                raise ValueError(
                    f"{' and '.join(unread)}: no effect on '{self.consumes['hidden_states']}', the last layer"
                )
        pairs = self._pairs(len(student_widths), len(teacher_widths))
        widths = [(student_widths[student], teacher_widths[teacher]) for student, teacher in pairs]
        self.projections = nn.ModuleList(
            nn.Identity() if ours == theirs else nn.Linear(ours, theirs, bias=False) for ours, theirs in widths
        )

    def _pairs(self, num_student: int, num_teacher: int) -> list[tuple[int, int]]:
        """Returns the places in the lists of student and teacher, whose lengths are given, that are compared."""
        if num_student == 1:
            return [(0, 0)]
        pairs = layer_pairs(self.layers, num_student - 1, num_teacher - 1)
        return [(0, 0)] * self.include_embeddings + pairs

    def forward(
        self,
        student_hidden_states: Tensor | Sequence[Tensor],
        teacher_hidden_states: Tensor | Sequence[Tensor],
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns the loss, a scalar.

        Args:
            student_hidden_states: (B, T, D), or a list of such tensors: the embeddings, then each layer.
            teacher_hidden_states: the same for the teacher; D may differ.
            mask: (B, T), true at real tokens; None counts every position.
        """
        ours, theirs = _as_list(student_hidden_states), _as_list(teacher_hidden_states)
        pairs = self._pairs(len(ours), len(theirs))
        projections = self.projections or [nn.Identity()] * len(pairs)
        distances = [
            masked_mean(self.per_token(projection(ours[student]).float(), theirs[teacher].float()), mask)
            for (student, teacher), projection in zip(pairs, projections, strict=True)
        ]
        return sum(distances) / len(distances)

    @abstractmethod
    def per_token(self, student_hidden_states: Tensor, teacher_hidden_states: Tensor) -> Tensor:
        """Returns the distance (B, T) at each position, from float32 states (B, T, D) of equal width."""


def _as_list(states: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [states] if isinstance(states, Tensor) else states


class CosineEmbeddingLoss(HiddenStatesLoss):
    """1 - cos(h_student, h_teacher), the third term of DistilBERT's loss (Sanh et al. 2019, section 2).

    The value is between 0 (same direction) and 2 (opposite direction).
    """

    def per_token(self, student_hidden_states: Tensor, teacher_hidden_states: Tensor) -> Tensor:
        return 1.0 - F.cosine_similarity(student_hidden_states, teacher_hidden_states, dim=-1)


class MeanSquaredErrorLoss(HiddenStatesLoss):
    """The squared difference, averaged over the D components of a hidden state (Jiao et al. 2020, eq. 8)."""

    def per_token(self, student_hidden_states: Tensor, teacher_hidden_states: Tensor) -> Tensor:
        return (student_hidden_states - teacher_hidden_states).square().mean(dim=-1)
