"""A teacher's distributions over its pieces, turned into distributions over the student's pieces.

Of a piece of the teacher, the whole probability goes to the student's piece with which the same text begins. What goes
to no piece is the tail. It is shared equally by the student's pieces that no piece of the teacher is mapped to.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from nemo_distill.losses.projection import Distributions, Logits, Projection, Tokens

LEAST_SHARE = 1e-9  # of a piece that only the tail can give probability to; keeps reverse KL finite
ELEMENTS = 20_000_000  # of the teacher's probabilities that are in memory at the same time


@dataclass(frozen=True)
class PieceMap:
    """Maps the teacher's pieces to the student's.

    Args:
        ids: (V'), for each piece of the teacher, that of the student; V for the tail.
        vocab_size: V.
    """

    ids: Tensor
    vocab_size: int

    def log_probs(self, teacher_log_probs: Tensor, temperature: float = 1.0) -> Tensor:
        """Returns log-probabilities (N, V) over the student's pieces at a temperature.

        Args:
            teacher_log_probs: (N, V'), at temperature 1.
            temperature: applied after the mapping, so that a teacher cache can be read at any temperature.
        """
        ids = self.ids.to(teacher_log_probs.device)
        probs = teacher_log_probs.new_zeros((len(teacher_log_probs), self.vocab_size + 1))
        probs.index_add_(1, ids, teacher_log_probs.exp())
        lacking = torch.ones(self.vocab_size + 1, dtype=torch.bool, device=ids.device)
        lacking[ids] = False
        share = (probs[:, -1:] / lacking[:-1].sum().clamp(min=1)).clamp(min=LEAST_SHARE)  # (N, 1)
        probs = torch.where(lacking[:-1], share, probs[:, :-1]).clamp_(min=torch.finfo(probs.dtype).tiny)
        return torch.log_softmax(probs.log_().div_(temperature), dim=-1)


@dataclass(frozen=True)
class MappedDistributions(Distributions):
    """Distributions over the student's pieces at the student's positions.

    No memory is reserved, and `project` computes nothing: the teacher's logits may be much wider than the student's,
    so `tempered_log_probs` holds only a few of them at a time.

    Args:
        teacher: the teacher's distributions (B, T') over its own pieces, or those (N,) of some tokens.
        positions: (B, T), the teacher's position for each position of the student; None: the same position.
        piece_map: maps the pieces.
    """

    teacher: Projection | Logits
    positions: Tensor | None
    piece_map: PieceMap

    def select(self, tokens: Tokens) -> Self:
        """Returns the distributions of some tokens, given by their indices in the dimensions (B, T)."""
        if self.positions is not None and isinstance(tokens, tuple):
            tokens = (tokens[0], self.positions[tokens])
        return replace(self, teacher=self.teacher.select(tokens), positions=None)

    def whole(self, temperature: float = 1.0) -> Tensor:
        """Returns the log-probabilities (B, T, V) of all positions at a temperature."""
        shape = self.teacher.shape[:2] if self.positions is None else self.positions.shape
        tokens = torch.ones(shape).nonzero().unbind(dim=-1)
        return self.select(tokens).tempered_log_probs(temperature).unflatten(0, shape)

    def to(self, dtype: torch.dtype) -> Self:
        return replace(self, teacher=self.teacher.to(dtype))

    def tempered_log_probs(self, temperature: float = 1.0) -> Tensor:
        """Returns the log-probabilities (N, V) of some tokens at a temperature."""
        rows = max(1, ELEMENTS // len(self.piece_map.ids))
        parts = [
            self.teacher.select(slice(start, start + rows)) for start in range(0, self.teacher.shape[0] or 1, rows)
        ]
        return torch.cat([self.piece_map.log_probs(part.tempered_log_probs(1.0), temperature) for part in parts])


def label_log_probs(teacher: Projection | Logits, labels: Tensor, mask: Tensor) -> Tensor:
    """Returns the log-probability (B, T') of each label, and 0 where `mask` is false.

    Args:
        teacher: the teacher's distributions (B, T').
        labels: (B, T').
        mask: (B, T').
    """
    found = torch.zeros_like(labels, dtype=torch.float32)
    for tokens in mask.nonzero().split(max(1, ELEMENTS // teacher.shape[-1])):
        places = tokens.unbind(dim=-1)
        log_probs = teacher.select(places).tempered_log_probs(1.0)  # (N, V')
        found[places] = log_probs.gather(-1, labels[places].unsqueeze(-1)).squeeze(-1).float()
    return found
