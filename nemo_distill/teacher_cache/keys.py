"""Content-based keys for sentence pairs.

A teacher's distributions for a pair depend only on the pair's ids, and so does its key. The pair is therefore found in
any batch, order, mix or epoch.
"""

import hashlib

import numpy as np
from torch import Tensor

KEY_BYTES = 16
KEY = np.dtype(f"S{KEY_BYTES}")


def pair_keys(src_ids: Tensor, src_mask: Tensor, labels: Tensor, pad_id: int) -> np.ndarray:
    """Returns the keys (B,) of the pairs in a batch. They do not depend on padding.

    Args:
        src_ids: (B, S).
        src_mask: (B, S), true at real tokens.
        labels: (B, T).
        pad_id: the padding id of the labels.
    """
    sources, source_masks = src_ids.cpu().numpy(), src_mask.cpu().numpy().astype(bool)
    targets = labels.cpu().numpy()
    keys = [
        pair_key(source[mask], target[target != pad_id])
        for source, mask, target in zip(sources, source_masks, targets, strict=True)
    ]
    return np.array(keys, dtype=KEY)


def pair_key(source: np.ndarray, target: np.ndarray) -> bytes:
    """Returns the key of a pair, from its source ids (S,) and its labels (T,) without padding."""
    length = len(source).to_bytes(4, "little")  # separates source and target
    ids = source.astype("<i4").tobytes() + target.astype("<i4").tobytes()
    return hashlib.blake2b(length + ids, digest_size=KEY_BYTES).digest()
