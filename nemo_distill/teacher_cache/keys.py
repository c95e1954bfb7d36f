"""By what a pair is found again: its content.

A teacher's distributions over a pair depend on the pair's ids alone. So does its key, and it is found in whatever
batch, order, mixture or epoch it comes.
"""

import hashlib

import numpy as np
from torch import Tensor

KEY_BYTES = 16
KEY = np.dtype(f"S{KEY_BYTES}")


def pair_keys(src_ids: Tensor, src_mask: Tensor, labels: Tensor, pad_id: int) -> np.ndarray:
    """Returns the key of each pair of a batch (B,), which padding does not change.

    Args:
        src_ids: (B, S).
        src_mask: (B, S), true at real tokens.
        labels: (B, T).
        pad_id: the id of padding in the labels.
    """
    sources, source_masks = src_ids.cpu().numpy().astype("<i4"), src_mask.cpu().numpy().astype(bool)
    targets = labels.cpu().numpy().astype("<i4")
    keys = [
        _digest(source[mask], target[target != pad_id])
        for source, mask, target in zip(sources, source_masks, targets, strict=True)
    ]
    return np.array(keys, dtype=KEY)


def _digest(source: np.ndarray, target: np.ndarray) -> bytes:
    # The length says where the source ends.
    length = len(source).to_bytes(4, "little")
    return hashlib.blake2b(length + source.tobytes() + target.tobytes(), digest_size=KEY_BYTES).digest()
