"""Decides which pairs are used for training, and packs them into batches as NeMo does.

NeMo's data sets clean and pack pairs in the same way, with three differences. NeMo counts the first and the last token
of an empty line, and so keeps it. NeMo does not tell how many pairs it drops. And these functions work on arrays of
lengths instead of lists of lists, which takes a fraction of the time and memory.
"""

from collections import Counter, deque

import numpy as np
from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.text.lines import EMPTY

TOO_LONG, TOO_SHORT, DIFFERENCE, RATIO = "too_long", "too_short", "length_difference", "length_ratio"
SPECIAL_TOKENS = 2  # the first and the last token of a sentence
MULTIPLE = 8  # NeMo's batches have a multiple of so many pairs if they can, which GPUs compute faster


@section
class PairLimits:
    """Which pairs are used. Lengths are numbers of tokens, with the first and the last one of each sentence."""

    clean: bool = True
    """Drop pairs with an empty side, and pairs beyond the limits below; false keeps all pairs."""
    max_seq_length: int = Field(default=512, ge=1)
    """Longest side of a pair."""
    min_seq_length: int = Field(default=1, ge=0)
    """Shortest side of a pair."""
    max_seq_length_diff: int = Field(default=512, ge=0)
    """Largest difference between the lengths of the sides."""
    max_seq_length_ratio: float = Field(default=512, ge=1)
    """Largest ratio between the lengths of the sides, without the first and the last token."""

    def keeps(self, src_lengths: np.ndarray, tgt_lengths: np.ndarray, dropped: Counter) -> np.ndarray:
        """Returns a mask (N,) of the pairs to use, and counts the others in `dropped`, each by its first reason.

        Args:
            src_lengths: lengths (N,) of the sources; 2 for an empty line.
            tgt_lengths: lengths (N,) of the targets.
        """
        kept = np.ones(len(src_lengths), bool)
        if not self.clean:
            return kept
        shorter, longer = np.minimum(src_lengths, tgt_lengths), np.maximum(src_lengths, tgt_lengths)
        words = np.maximum(shorter - SPECIAL_TOKENS, 1), np.maximum(longer - SPECIAL_TOKENS, 1)
        for reason, wrong in (
            (EMPTY, shorter <= SPECIAL_TOKENS),
            (TOO_LONG, longer > self.max_seq_length),
            (TOO_SHORT, shorter < self.min_seq_length),
            (DIFFERENCE, longer - shorter > self.max_seq_length_diff),
            (RATIO, words[1] > self.max_seq_length_ratio * words[0]),
        ):
            if count := int(np.count_nonzero(wrong & kept)):
                dropped[reason] += count
                kept &= ~wrong
        return kept


@section
class BatchSettings(PairLimits):
    """How pairs become tarred data."""

    tokens_in_batch: int = Field(default=512, ge=1)
    """Source and target tokens in a batch, padding included."""
    lines_per_dataset_fragment: int = Field(default=1_000_000, ge=1)
    """Number of lines that are sorted by length together; memory grows with it."""
    num_batches_per_tarfile: int = Field(default=100, ge=1)
    """Largest number of batches in a tar file."""


def dropped_in_words(dropped: Counter) -> str:
    """Returns counts by reason as `3 empty, 1 too long`."""
    return ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in dropped.items())


def pack(src_lengths: np.ndarray, tgt_lengths: np.ndarray, tokens_in_batch: int) -> list[list[int]]:
    """Returns the pairs of each batch, the same ones that NeMo's `TranslationDataset` forms.

    Pairs are taken in the order of their source length, or one from the next length if that makes the batch grow less.
    A batch ends when its source and target tokens, padding included, exceed the limit. It keeps the largest multiple
    of 8 pairs that is below the limit.

    Args:
        src_lengths: lengths (N,) of the sources.
        tgt_lengths: lengths (N,) of the targets.
        tokens_in_batch: limit for the number of tokens.
    """
    buckets = _buckets(src_lengths, tgt_lengths)
    sources, targets = src_lengths.tolist(), tgt_lengths.tolist()
    batches: list[list[int]] = []
    batch: list[int] = []
    src_length = tgt_length = 0
    for bucket, following in zip(buckets, [*buckets[1:], deque()]):
        while bucket:
            own = max(src_length, sources[bucket[0]]), max(tgt_length, targets[bucket[0]])
            chosen, lengths = bucket, own
            if following:
                other = max(src_length, sources[following[0]]), max(tgt_length, targets[following[0]])
                if sum(other) < sum(own):
                    chosen, lengths = following, other
            src_length, tgt_length = lengths
            batch.append(chosen.popleft())
            if len(batch) * (src_length + tgt_length) > tokens_in_batch:
                size = MULTIPLE * ((len(batch) - 1) // MULTIPLE) or len(batch)
                batches.append(batch[:size])
                batch = batch[size:]
                src_length = max((sources[row] for row in batch), default=0)
                tgt_length = max((targets[row] for row in batch), default=0)
    return [*batches, batch] if batch else batches


def _buckets(src_lengths: np.ndarray, tgt_lengths: np.ndarray) -> list[deque[int]]:
    """Returns the pairs of each source length, in the order of their target lengths."""
    order = np.lexsort((tgt_lengths, src_lengths))  # stable: of equal pairs, the first one comes first
    ends = np.flatnonzero(np.diff(src_lengths[order])) + 1
    return [deque(part.tolist()) for part in np.split(order, ends)] if len(order) else []
