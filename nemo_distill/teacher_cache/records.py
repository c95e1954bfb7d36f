"""What is stored of one target token: the most probable words, the rest's probability and the label's."""

import numpy as np
import torch
from torch import Tensor

from nemo_distill.data.text_lines import DataError
from nemo_distill.losses.top_k import TopK, top_k_of
from nemo_distill.teacher_cache.keys import KEY

DTYPES = ("float16", "float32")
PAIR = np.dtype([("key", KEY), ("tokens", "<u4")])


def token_type(k: int, vocab_size: int, dtype: str) -> np.dtype:
    """Returns the layout of a token's record.

    Its fields are those of `TopK`, `ids` (k,), `log_probs` (k,) and `rest`, and `label`, the log-probability of the
    token itself, all at temperature 1.

    Args:
        k: the words that are kept.
        vocab_size: V; ids are of the smallest type that holds V - 1.
        dtype: of the log-probabilities, one of `DTYPES`.
    """
    ids, log_probs = np.min_scalar_type(vocab_size - 1).newbyteorder("<"), np.dtype(dtype).newbyteorder("<")
    return np.dtype([("ids", ids, (k,)), ("log_probs", log_probs, (k,)), ("rest", log_probs), ("label", log_probs)])


def token_records(log_probs: Tensor, labels: Tensor, layout: np.dtype) -> np.ndarray:
    """Returns the records (N,) of tokens.

    Args:
        log_probs: (N, V), the teacher's.
        labels: (N,), the tokens.
        layout: what `token_type` returned.

    Raises:
        DataError: if a probability is no number.
    """
    kept = top_k_of(log_probs, layout["ids"].shape[0])
    if torch.isnan(kept.log_probs).any():
        raise DataError("the teacher gave a word a probability that is no number")
    label = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (N,)
    records = np.empty(len(labels), layout)
    records["ids"] = kept.ids.cpu().numpy()
    lowest = np.finfo(layout["rest"]).min
    for field, values in (("log_probs", kept.log_probs), ("rest", kept.rest), ("label", label)):
        records[field] = np.maximum(values.float().cpu().numpy(), lowest)
    return records


def kept_words(records: np.ndarray, mask: Tensor, vocab_size: int, tail: str) -> TopK:
    """Returns what records (N,) hold, at the places (B, T) of the N tokens where `mask` is true, on its device.

    Args:
        records: of the tokens, sentence by sentence.
        mask: (B, T).
        vocab_size: V.
        tail: see `TopK`.
    """
    return TopK(
        padded(records["ids"], mask, torch.int64),
        padded(records["log_probs"], mask, torch.float32),
        padded(records["rest"], mask, torch.float32),
        vocab_size,
        tail,
    )


def padded(values: np.ndarray, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns values (N, ...) at the places (B, T, ...) where `mask` is true, and zeros elsewhere."""
    found = torch.from_numpy(np.ascontiguousarray(values)).to(mask.device).to(dtype)
    everywhere = found.new_zeros((*mask.shape, *found.shape[1:]))
    everywhere[mask] = found
    return everywhere
