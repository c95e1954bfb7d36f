"""Reduces losses per position to a scalar."""

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the mean of `values` over the positions where `mask` is true, or Σ mask · values / Σ mask for weights.

    Values at masked positions have no effect and get gradient 0, even if they are not finite.

    Args:
        values: the loss at each position, for example (B, T).
        mask: same shape, boolean or a weight of at least 0 for each position; None counts every position.

    Returns:
        A scalar. If the mask is false or 0 everywhere, it is 0 with finite gradients.
    """
    if mask is None:
        return values.mean()
    total = mask.sum()
    return (values.masked_fill(mask == 0, 0.0) * mask).sum() / (total + (total == 0))
