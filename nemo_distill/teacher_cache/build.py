"""Building: the teacher runs over each pair once, shard by shard, in as many processes as there are.

The first process finds out which pairs came before; they are left out. Then each process goes through all of the data,
which is quick, and lets the teacher run for every n-th shard. A shard depends on the data and the settings alone, so
that whoever makes it, and however often the job was killed, it is the same bytes. The process that finds all shards
there closes the folder. What a process holds in memory does not grow with the data.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from nemo_distill.config.errors import DataError
from nemo_distill.storage.sorted_on_disk import SortedOnDisk
from nemo_distill.teacher_cache.folder import CacheFolder
from nemo_distill.teacher_cache.keys import KEY, pair_keys
from nemo_distill.teacher_cache.records import PAIR, token_records, token_type

NUMBERED = np.dtype([("key", KEY), ("number", "<i8")])
GROUP = 10_000  # pairs whose keys are written at a time
# Called with the share of the batches gone through and the pairs that the teacher has seen since the last call.
OnProgress = Callable[[float, int], None]
Batch = Sequence[Tensor]  # src_ids (B, S), src_mask (B, S), tgt_ids (B, T), tgt_mask (B, T), labels (B, T)


class TeacherOfPairs(Protocol):
    """A teacher and the pairs that it is to run over."""

    pad_id: int  # of labels
    vocab_size: int

    @property
    def num_batches(self) -> int:
        """How many batches there are."""

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
    repeated = job.folder.repeated(lambda: _repeated_pairs(teacher, job.folder.path))
    shards, done = 0, 0.0
    for index, (batches, number) in enumerate(_shards(teacher, repeated, job.shard_pairs)):
        share = number / teacher.num_batches
        if job.folder.lacks(index, rank, world_size):
            tokens = []
            for part, batch in enumerate(batches, start=1):
                tokens.append(_records(teacher, batch, layout))
                on_progress(done + (share - done) * part / len(batches), len(batch[0]))
            job.folder.write(index, _pairs(batches, teacher.pad_id), np.concatenate(tokens))
        shards, done = index + 1, share
        on_progress(done, 0)
    if not shards:
        raise DataError("model.train_ds holds no pairs")
    return job.folder.close(shards)


def _repeated_pairs(teacher: TeacherOfPairs, folder: Path) -> np.ndarray:
    """Returns the numbers, from 0 in the order of the batches, of the pairs that came before."""
    number = 0
    with SortedOnDisk(NUMBERED, folder) as pairs:
        for batches in _groups(teacher.batches(), GROUP):
            keys = np.concatenate([pair_keys(batch[0], batch[1], batch[-1], teacher.pad_id) for batch in batches])
            numbered = np.empty(len(keys), NUMBERED)
            numbered["key"], numbered["number"] = keys, np.arange(number, number + len(keys))
            pairs.add(numbered)
            number += len(keys)
        return pairs.repeated("number")


def _groups(batches: Iterator[Batch], pairs: int) -> Iterator[list[Batch]]:
    group: list[Batch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += len(batch[0])
        if size >= pairs:
            yield group
            group, size = [], 0
    if group:
        yield group


def _shards(teacher: TeacherOfPairs, repeated: np.ndarray, shard_pairs: int) -> Iterator[tuple[list[Batch], int]]:
    """Yields the new pairs of each shard in batches, and how many batches have been gone through."""
    batches, first, number, pairs = [], 0, 0, 0
    for number, batch in enumerate(teacher.batches(), start=1):
        begin, end = np.searchsorted(repeated, [first, first + len(batch[0])])
        rows = np.delete(np.arange(len(batch[0])), repeated[begin:end] - first)
        first += len(batch[0])
        if len(rows):
            batches.append([tensor[rows] for tensor in batch] if end > begin else batch)
            pairs += len(rows)
        if pairs >= shard_pairs:
            yield batches, number
            batches, pairs = [], 0
    if batches:
        yield batches, number


def _records(teacher: TeacherOfPairs, batch: Batch, layout: np.dtype) -> np.ndarray:
    log_probs, labels = teacher.log_probs(batch), batch[-1]
    if log_probs.shape[-1] != teacher.vocab_size:
        raise DataError(f"the teacher gave {log_probs.shape[-1]} probabilities; it knows {teacher.vocab_size} words")
    mask = labels != teacher.pad_id  # (B, T)
    return token_records(log_probs[mask.to(log_probs.device)], labels[mask].to(log_probs.device), layout)


def _pairs(batches: Sequence[Batch], pad_id: int) -> np.ndarray:
    pairs = np.empty(sum(len(batch[0]) for batch in batches), PAIR)
    pairs["key"] = np.concatenate([pair_keys(batch[0], batch[1], batch[-1], pad_id) for batch in batches])
    pairs["tokens"] = np.concatenate([(batch[-1] != pad_id).sum(dim=1).numpy() for batch in batches])
    return pairs
