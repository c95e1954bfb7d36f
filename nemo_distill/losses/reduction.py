"""How losses per position become one number."""

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Returns the mean of `values` over the positions where `mask` is true.

    Values at other positions do not matter, and their gradient is zero.

    Args:
        values: a loss for each position, for example (B, T).
        mask: of the same shape; None counts every position.

    Returns:
        A scalar; 0, with finite gradients, if the mask is true nowhere.
    """
    if mask is None:
        return values.mean()
    mask = mask.bool()
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
