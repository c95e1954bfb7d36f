"""Distillation across vocabularies by sorted probabilities."""

from torch import Tensor, nn
from torch.nn.functional import pad

from nemo_distill.losses.reduction import masked_mean


class SortedProbabilitiesLoss(nn.Module):
    """Compares the sorted probabilities of teacher and student, whatever words they belong to.

    At position t of both segmentations, the loss is Σ_i |p_i - q_i| over the i-th largest probabilities p of the
    student and q of the teacher. The smaller vocabulary is filled with zeros (Boizard et al. 2024, Universal Logit
    Distillation). It is a baseline: it knows neither which pieces are equal nor which positions follow the same text.
    """

    def __init__(self) -> None:
        super().__init__()
        self.consumes = {"own_pieces": "own_pieces", "log_probs": "log_probs"}

    def forward(
        self, teacher_own_pieces: list[Tensor], student_log_probs: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Returns the mean over the positions that both segmentations have; 0 if there are none.

        Args:
            teacher_own_pieces: log-probabilities (B, T', V') over the teacher's pieces, and the mask (B, T') of its
                real target pieces.
            student_log_probs: (B, T, V).
            mask: (B, T), true at real target pieces; None counts every position.
        """
        log_probs, real = teacher_own_pieces
        length = min(log_probs.shape[1], student_log_probs.shape[1])
        real = real[:, :length] if mask is None else real[:, :length] * mask[:, :length]
        size = max(log_probs.shape[-1], student_log_probs.shape[-1])
        p, q = (_largest_first(values[:, :length], size) for values in (student_log_probs, log_probs))
        return masked_mean((p - q).abs().sum(dim=-1), real)


def _largest_first(log_probs: Tensor, size: int) -> Tensor:
    """Returns the probabilities (B, T, size) of log-probabilities (B, T, V), sorted and filled with zeros."""
    return pad(log_probs.exp().sort(dim=-1, descending=True).values, (0, size - log_probs.shape[-1]))
