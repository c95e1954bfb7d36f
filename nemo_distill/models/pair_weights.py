"""Finds the weight of each pair in a batch, for a mix with `weighting: loss`.

NeMo's loaders carry ids and no weights. So weights are found by the content of the pair, as in a teacher cache: in
text and in tarred data, and in any order. Pairs with equal ids get the mean of their weights, which leaves the sum of
their losses as it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.nemo_files.nemo_tokenizers import NemoTokenIds, text_of
from nemo_distill.teacher_cache.records import KEY, found_keys, pair_key, pair_keys
from nemo_distill.text.lines import TextFiles, chunks
from nemo_distill.text.token_ids import id_rows

WHERE = "model.distillation.mix.weighting=loss"
CHUNK = 5000  # pairs that are turned into ids at a time


class PairWeights:
    """The weights of the pairs of a mix.

    Args:
        source: the mix's source file; its targets and weights are beside it.
        target: the mix's target file.
        tokenizers: NeMo's tokenizers of source and target.

    Raises:
        ConfigurationError: if the mix has no weights.
    """

    def __init__(self, source: Path, target: Path, tokenizers: Sequence[Any]):
        path = source.with_suffix(".weights")
        if not path.is_file():
            raise ConfigurationError([f"{WHERE}: '{path}' does not exist; mix the text first."])
        self._source_tokenizer, self._pad_id = tokenizers[0], tokenizers[1].pad_id
        readers = [NemoTokenIds(tokenizer) for tokenizer in tokenizers]
        weights = np.array([float(line) for line in TextFiles([path])])
        keys: list[bytes] = []
        pairs = zip(TextFiles([source]), TextFiles([target]), strict=True)
        for lines in chunks(pairs, CHUNK):
            rows = [id_rows(reader, [line.decode() for line in side]) for reader, side in zip(readers, zip(*lines))]
            sides = [np.split(side.ids, side.starts[1:]) for side in rows]
            keys += [pair_key(source_ids, target_ids[1:]) for source_ids, target_ids in zip(*sides)]
        self._keys, places, counts = np.unique(np.array(keys, KEY), return_inverse=True, return_counts=True)
        self._weights = (np.bincount(places, weights) / counts).astype(np.float32)

    def of(self, src_ids: Tensor, src_mask: Tensor, labels: Tensor) -> Tensor:
        """Returns the weight (B,) of each pair in a batch.

        Args:
            src_ids: (B, S).
            src_mask: (B, S), true at real tokens.
            labels: (B, T).

        Raises:
            DataError: if the mix does not have a pair.
        """
        keys = pair_keys(src_ids, src_mask, labels, self._pad_id)
        places, known = found_keys(self._keys, keys)
        if not known.all():
            row = int(known.argmin())
            source = text_of(src_ids[row].tolist(), self._source_tokenizer)
            raise DataError(
                f"{WHERE}: the mix has no weight for the pair whose source is '{source}'; "
                "check that the training reads the text of the mix with its own tokenizers"
            )
        return torch.from_numpy(self._weights[places]).to(labels.device)
