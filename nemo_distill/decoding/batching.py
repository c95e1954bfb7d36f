"""Batches of sentences of about the same length."""

from collections.abc import Iterator, Sequence


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yields the indices of `lengths` in batches, the longest first, so that too small a memory shows at once.

    Args:
        lengths: in tokens.
        budget: the most tokens in a batch, padding included; a longer sentence is alone in its batch.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
