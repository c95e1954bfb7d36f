"""What the losses between a teacher's and a student's hidden states have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from nemo_distill.losses.layer_map import LayerMap, layer_pairs
from nemo_distill.losses.reduction import masked_mean


class HiddenStatesLoss(nn.Module, ABC):
    """The mean over pairs of layers of a distance between hidden states, each the mean over real tokens.

    Where a pair's widths differ, the student's states first go through a matrix of their own, learned with the student
    (Jiao et al. 2020, eq. 8). It belongs to the loss: checkpoints hold it, the student's `.nemo` does not.

    Args:
        hidden_states: the name under which the states are registered: of the stack's output, or of all its layers.
        layers: for all layers, which ones are compared; see `layer_pairs`.
        include_embeddings: for all layers, also compare what goes into the first.
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
        self.pairs = [(0, 0)]
        self.projections = nn.ModuleList([nn.Identity()])

    def prepare(self, student_widths: Sequence[int], teacher_widths: Sequence[int]) -> None:
        """Chooses the pairs and makes the projections, once both models are known.

        Args:
            student_widths: D of each of the student's registered tensors: one for the stack's output, or the
                embeddings' and each layer's.
            teacher_widths: the teacher's, likewise.

        Raises:
            ValueError: if the layers cannot be paired as asked.
        """
        if len(student_widths) > 1:
            self.pairs = layer_pairs(self.layers, len(student_widths) - 1, len(teacher_widths) - 1)
            self.pairs = [(0, 0)] * self.include_embeddings + self.pairs
        widths = [(student_widths[student], teacher_widths[teacher]) for student, teacher in self.pairs]
        self.projections = nn.ModuleList(
            nn.Identity() if ours == theirs else nn.Linear(ours, theirs, bias=False) for ours, theirs in widths
        )

    def forward(
        self,
        student_hidden_states: Tensor | Sequence[Tensor],
        teacher_hidden_states: Tensor | Sequence[Tensor],
        mask: Tensor | None = None,
    ) -> Tensor:
        """Returns the loss, a scalar.

        Args:
            student_hidden_states: (B, T, D), or a list of them: the embeddings', then each layer's.
            teacher_hidden_states: likewise, of the teacher's widths.
            mask: (B, T), true at real tokens; None counts every position.
        """
        ours, theirs = _as_list(student_hidden_states), _as_list(teacher_hidden_states)
        distances = [
            masked_mean(self.per_token(projection(ours[student]).float(), theirs[teacher].float()), mask)
            for (student, teacher), projection in zip(self.pairs, self.projections)
        ]
        return sum(distances) / len(distances)

    @abstractmethod
    def per_token(self, student_hidden_states: Tensor, teacher_hidden_states: Tensor) -> Tensor:
        """Returns the distance (B, T) of each position, from float32 states (B, T, D) of equal width."""


def _as_list(states: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return [states] if isinstance(states, Tensor) else states
