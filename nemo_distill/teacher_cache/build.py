"""Building: the teacher runs over each pair once, shard by shard, in as many processes as there are.

Each process goes through all of the data, which is quick, and lets the teacher run for every n-th shard. A pair that
came before is left out. A shard depends on the data and the settings alone, so that whoever makes it, and however
often the job was killed, it is the same bytes. The process that finds all shards there closes the folder.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from nemo_distill.data.text_lines import DataError
from nemo_distill.teacher_cache.folder import CacheFolder
from nemo_distill.teacher_cache.keys import KEY, pair_keys
from nemo_distill.teacher_cache.records import PAIR, token_records, token_type

# Called with the share of the batches gone through and the pairs that the teacher has seen since the last call.
OnProgress = Callable[[float, int], None]
Batch = Sequence[Tensor]  # src_ids (B, S), src_mask (B, S), tgt_ids (B, T), tgt_mask (B, T), labels (B, T)


class TeacherOfPairs(Protocol):
    """A teacher and the pairs that it is to run over."""

    pad_id: int  # of labels
    vocab_size: int
    num_batches: int

    def batches(self) -> Iterator[Batch]:
        """Yields the pairs in batches, which are the same at each call."""

    def log_probs(self, batch: Batch) -> Tensor:
        """Returns the log-probabilities (B, T, V) of the target tokens."""


@dataclass(frozen=True)
class CacheJob:
    """What is to be built, and where.

    Args:
        folder: for the shards.
        k: words that are kept of a token; None keeps all.
        dtype: of log-probabilities.
        shard_pairs: a shard ends with the batch that brings it to as many pairs.
    """

    folder: CacheFolder
    k: int | None
    dtype: str
    shard_pairs: int

    def layout(self, vocab_size: int) -> np.dtype:
        """Returns the layout of a token's record.

        Raises:
            DataError: if there are not as many words as k.
        """
        if self.k is not None and self.k > vocab_size:
            raise DataError(f"cache.k={self.k}: the teacher knows {vocab_size} words; null keeps all of them")
        return token_type(self.k or vocab_size, vocab_size, self.dtype)


def build(
    job: CacheJob,
    load_teacher: Callable[[], TeacherOfPairs],
    rank: int = 0,
    world_size: int = 1,
    overwrite: bool = False,
    on_progress: OnProgress = lambda position, pairs: None,
) -> dict[str, Any] | None:
    """Makes this process's shards, apart from those that are there, and closes the folder if no others are missing.

    Args:
        job: what to do.
        load_teacher: called if there is something to do.
        rank: this process's number, from 0.
        world_size: how many processes do the same.
        overwrite: delete what other settings have left in the folder, rather than refuse.
        on_progress: see `OnProgress`.

    Returns:
        The manifest, or None if other processes still make shards.
    """
    job.folder.take(overwrite)
    if manifest := job.folder.manifest():
        return manifest
    teacher = load_teacher()
    layout = job.layout(teacher.vocab_size)
    shards, done = 0, 0.0
    for index, (keys, batches, number) in enumerate(_shards(teacher, job.shard_pairs)):
        share = number / teacher.num_batches
        if job.folder.lacks(index, rank, world_size):
            tokens = []
            for part, batch in enumerate(batches, start=1):
                tokens.append(_records(teacher, batch, layout))
                on_progress(done + (share - done) * part / len(batches), len(batch[0]))
            job.folder.write(index, _pairs(keys, batches, teacher.pad_id), np.concatenate(tokens))
        shards, done = index + 1, share
        on_progress(done, 0)
    if not shards:
        raise DataError("model.train_ds holds no pairs")
    return job.folder.close(shards)


def _shards(teacher: TeacherOfPairs, shard_pairs: int) -> Iterator[tuple[np.ndarray, list[Batch], int]]:
    """Yields the new pairs of each shard, their keys and in batches, and how many batches have been gone through."""
    seen: set[bytes] = set()
    keys, batches, number = [], [], 0
    for number, batch in enumerate(teacher.batches(), start=1):
        new_keys, rows = _new_rows(pair_keys(batch[0], batch[1], batch[-1], teacher.pad_id), seen)
        if rows:
            keys += new_keys
            batches.append([tensor[rows] for tensor in batch])
        if len(keys) >= shard_pairs:
            yield np.array(keys, KEY), batches, number
            keys, batches = [], []
    if keys:
        yield np.array(keys, KEY), batches, number


def _new_rows(keys: np.ndarray, seen: set[bytes]) -> tuple[list[bytes], list[int]]:
    new = {}
    for row, key in enumerate(keys.tolist()):
        if key not in seen:
            seen.add(key)
            new[key] = row
    return list(new), list(new.values())


def _records(teacher: TeacherOfPairs, batch: Batch, layout: np.dtype) -> np.ndarray:
    log_probs, labels = teacher.log_probs(batch), batch[-1]
    if log_probs.shape[-1] != teacher.vocab_size:
        raise DataError(f"the teacher gave {log_probs.shape[-1]} probabilities; it knows {teacher.vocab_size} words")
    mask = labels != teacher.pad_id  # (B, T)
    return token_records(log_probs[mask.to(log_probs.device)], labels[mask].to(log_probs.device), layout)


def _pairs(keys: np.ndarray, batches: Sequence[Batch], pad_id: int) -> np.ndarray:
    pairs = np.empty(len(keys), PAIR)
    pairs["key"] = keys
    pairs["tokens"] = np.concatenate([(batch[-1] != pad_id).sum(dim=1).numpy() for batch in batches])
    return pairs
