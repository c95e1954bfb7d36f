"""Reduces losses per position to a scalar."""

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the mean of `values` over the positions where `mask` is true.

    Values at masked positions have no effect and get gradient 0.

    Args:
        values: the loss at each position, for example (B, T).
        mask: same shape; None counts every position.

    Returns:
        A scalar. If the mask is false everywhere, it is 0 with finite gradients.
    """
    if mask is None:
        return values.mean()
    mask = mask.bool()
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
