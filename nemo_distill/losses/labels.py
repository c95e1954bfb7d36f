"""The loss on the reference translations as part of the fused losses."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SmoothedLabels:
    """Negative log-likelihood with label smoothing: -(1 - s) log p(y) - s/V Σ_v log p(v).

    s = label_smoothing · V / (V - 1), so that each word other than the reference has the target probability
    label_smoothing / (V - 1) (Szegedy et al. 2016, section 7; the same as NeMo's `SmoothedCrossEntropyLoss`). p is
    always at temperature 1.

    Args:
        ids: (B, T), or (N,) for N tokens.
        label_smoothing: 0 gives the plain negative log-likelihood.
    """

    ids: Tensor
    label_smoothing: float = 0.0

    def select(self, tokens: tuple[Tensor, ...] | slice) -> "SmoothedLabels":
        """Returns the labels of some tokens, given by their indices in the dimensions (B, T)."""
        return SmoothedLabels(self.ids[tokens], self.label_smoothing)

    def per_token(self, log_probs: Tensor) -> Tensor:
        """Returns the loss (N,) of each token, from log-probabilities (N, V)."""
        share = self._share(log_probs)
        label_log_probs = log_probs.gather(-1, self.ids.unsqueeze(-1)).squeeze(-1)
        return -(1 - share) * label_log_probs - (share * log_probs.mean(dim=-1) if share else 0)

    def gradient(self, log_probs: Tensor) -> Tensor:
        """Returns the gradient (N, V) of the losses with respect to the logits."""
        share = self._share(log_probs)
        gradient = log_probs.exp().sub_(share / log_probs.shape[-1])
        ids = self.ids.unsqueeze(-1)
        return gradient.scatter_add_(-1, ids, gradient.new_full(ids.shape, share - 1))

    def _share(self, log_probs: Tensor) -> float:
        words = log_probs.shape[-1]
        return self.label_smoothing * words / (words - 1)
