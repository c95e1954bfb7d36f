"""What a teacher cache stores: a key for each pair, and a record for each target token.

A teacher's distributions for a pair depend only on the pair's ids, and so does its key. The pair is therefore found in
any batch, order, mix or epoch. A record has the most probable words, the others' total probability, and the label's.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from nemo_distill.config.errors import DataError
from nemo_distill.losses.top_k import TopK, top_k_of
from nemo_distill.teacher_cache.settings import Dtype

KEY_BYTES = 16
KEY = np.dtype(f"S{KEY_BYTES}")
PAIR = np.dtype([("key", KEY), ("tokens", "<u4")])


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


def found_keys(known: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places (B,) of keys (B,) among sorted ones, and (B,), false for those that are not there."""
    places = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return places, known[places] == keys


def token_type(k: int, vocab_size: int, dtype: Dtype) -> np.dtype:
    """Returns the layout of a token record.

    Its fields are those of `TopK`: `ids` (k,), `log_probs` (k,) and `rest`; and `label`, the log-probability of the
    token itself. All values are at temperature 1.

    Args:
        k: number of stored words.
        vocab_size: V. Ids have the smallest type that can represent V - 1.
        dtype: the type of log-probabilities, `float16` or `float32`.
    """
    ids, log_probs = np.min_scalar_type(vocab_size - 1).newbyteorder("<"), np.dtype(dtype).newbyteorder("<")
    return np.dtype([("ids", ids, (k,)), ("log_probs", log_probs, (k,)), ("rest", log_probs), ("label", log_probs)])


def is_token_type(layout: np.dtype, k: int | None, dtype: Dtype) -> bool:
    """True if `layout` is a `token_type` with this k (None: any k) and dtype, for any vocabulary."""
    if layout.names is None or "ids" not in layout.names or layout["ids"].base.kind != "u":
        return False
    kept = layout["ids"].shape
    if len(kept) != 1 or (k is not None and kept != (k,)):
        return False
    return layout == token_type(kept[0], int(np.iinfo(layout["ids"].base).max) + 1, dtype)


def token_records(log_probs: Tensor, labels: Tensor, layout: np.dtype) -> np.ndarray:
    """Returns the records (N,) of some tokens.

    Args:
        log_probs: (N, V), from the teacher; all -inf for a token without a distribution; see `is_known`.
        labels: (N,), the tokens.
        layout: the layout from `token_type`.

    Raises:
        DataError: if a probability is NaN.
    """
    kept = top_k_of(log_probs, layout["ids"].shape[0])
    if torch.isnan(kept.log_probs).any():
        raise DataError("the teacher returned a probability that is NaN")
    label = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (N,)
    records = np.empty(len(labels), layout)
    records["ids"] = kept.ids.cpu().numpy()
    lowest = np.finfo(layout["rest"]).min
    for field, values in (("log_probs", kept.log_probs), ("rest", kept.rest), ("label", label)):
        records[field] = np.maximum(values.float().cpu().numpy(), lowest)
    return records


def is_known(records: np.ndarray) -> np.ndarray:
    """Returns (N,), false for tokens without a distribution, whose log-probabilities are all the lowest number."""
    log_probs = records["log_probs"][:, 0]
    return log_probs > np.finfo(log_probs.dtype).min


def kept_words(records: np.ndarray, mask: Tensor, vocab_size: int, tail: str) -> TopK:
    """Converts records (N,) to a `TopK` of shape (B, T) on the device of `mask`.

    Args:
        records: the records of the N tokens, sentence by sentence.
        mask: (B, T), true at N positions.
        vocab_size: V.
        tail: see `TopK`.

    Raises:
        DataError: if a word is outside the vocabulary, or the mask is not true at N positions.
    """
    if len(records) and int(records["ids"].max()) >= vocab_size:
        raise DataError(
            f"the teacher cache holds word id {int(records['ids'].max())}, but the student has {vocab_size} words"
        )
    return TopK(
        padded(records["ids"], mask, torch.int64),
        padded(records["log_probs"], mask, torch.float32),
        padded(records["rest"], mask, torch.float32),
        vocab_size,
        tail,
    )


def padded(values: np.ndarray, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a tensor (B, T, ...) with values (N, ...) where `mask` is true, and zeros elsewhere.

    Raises:
        DataError: if the mask is not true at N positions.
    """
    if len(values) != (wanted := int(mask.sum())):
        raise DataError(f"the teacher cache holds {len(values)} tokens for a batch of {wanted}")
    found = torch.from_numpy(np.array(values)).to(mask.device).to(dtype)  # copied, because record fields are strided
    everywhere = found.new_zeros((*mask.shape, *found.shape[1:]))
    everywhere[mask] = found
    return everywhere
