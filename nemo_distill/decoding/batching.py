"""Groups sentences of similar length into batches."""

from collections.abc import Iterator, Sequence


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yields the indices of `lengths` in batches, longest first, so that a lack of memory shows at once.

    Args:
        lengths: number of tokens of each sentence.
        budget: maximum number of tokens in a batch, including padding. A longer sentence gets its own batch.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
