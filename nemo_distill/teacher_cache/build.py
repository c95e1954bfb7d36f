"""Builds a teacher cache: runs the teacher once on each pair, shard by shard, in one or more processes.

The first process finds repeated pairs, which are skipped. Then each process reads all data, which is fast, and runs
the teacher for its own part of the shards. A shard depends only on the data and the settings. Its bytes are the same
no matter which process writes it or how often the job was interrupted. The process that finds all shards complete
closes the folder. The memory of a process does not grow with the data.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from nemo_distill.config.errors import DataError
from nemo_distill.storage.sorted_on_disk import SortedOnDisk
from nemo_distill.teacher_cache.folder import CacheFolder
from nemo_distill.teacher_cache.records import KEY, PAIR, pair_keys, token_records, token_type
from nemo_distill.teacher_cache.settings import CacheSettings

NUMBERED = np.dtype([("key", KEY), ("number", "<i8")])
GROUP = 10_000  # number of pairs whose keys are added at a time
# Called with the fraction of batches read, and the number of pairs that the teacher has processed since the last call.
OnProgress = Callable[[float, int], None]
Batch = Sequence[Tensor]  # src_ids (B, S), src_mask (B, S), tgt_ids (B, T), tgt_mask (B, T), labels (B, T)


class TeacherOfPairs(Protocol):
    """A teacher and the pairs to run it on."""

    pad_id: int  # the padding id of labels
    vocab_size: int

    @property
    def num_batches(self) -> int:
        """How many batches there are."""

    def batches(self) -> Iterator[Batch]:
        """Yields the pairs in batches. The batches are the same at each call."""

    def log_probs(self, batch: Batch) -> Tensor:
        """Returns the log-probabilities (B, T, V) of the target tokens."""


def build(
    folder: CacheFolder,
    settings: CacheSettings,
    load_teacher: Callable[[], TeacherOfPairs],
    rank: int = 0,
    world_size: int = 1,
    overwrite: bool = False,
    on_progress: OnProgress = lambda position, pairs: None,
) -> dict[str, Any] | None:
    """Writes the missing shards of this process, and closes the folder if all shards are complete.

    Args:
        folder: the folder to write to.
        settings: what is stored, and in shards of what size.
        load_teacher: loads the teacher. Called only if there is work to do.
        rank: the number of this process, from 0.
        world_size: the number of processes.
        overwrite: delete results with other settings instead of raising an error.
        on_progress: see `OnProgress`.

    Returns:
        The manifest, or None if other processes are still writing shards.

    Raises:
        DataError: if there are no pairs, or k is greater than the vocabulary.
    """
    folder.take(overwrite)
    if manifest := folder.manifest():
        return manifest
    teacher = load_teacher()
    if settings.k is not None and settings.k > teacher.vocab_size:
        words = f"the teacher has only {teacher.vocab_size} words"
        raise DataError(f"cache.k={settings.k}: {words}; null stores all of them")
    layout = token_type(settings.k or teacher.vocab_size, teacher.vocab_size, settings.dtype)
    repeated = folder.repeated(lambda: _repeated_pairs(teacher, folder.path))
    shards, done = 0, 0.0
    for index, (batches, number) in enumerate(_shards(teacher, repeated, settings.shard_pairs)):
        share = number / teacher.num_batches
        if folder.lacks(index, rank, world_size):
            tokens = []
            for part, batch in enumerate(batches, start=1):
                tokens.append(_records(teacher, batch, layout))
                on_progress(done + (share - done) * part / len(batches), len(batch[0]))
            folder.write(index, _pairs(batches, teacher.pad_id), np.concatenate(tokens))
        shards, done = index + 1, share
        on_progress(done, 0)
    if not shards:
        raise DataError("model.train_ds holds no pairs")
    return folder.close(shards)


def _repeated_pairs(teacher: TeacherOfPairs, folder: Path) -> np.ndarray:
    """Returns the numbers of pairs that repeat an earlier pair. Pairs are numbered from 0 in the order of batches."""
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
    """Yields the batches of each shard without repeated pairs, and the number of batches read so far."""
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
        raise DataError(f"the teacher returned {log_probs.shape[-1]} probabilities for {teacher.vocab_size} words")
    mask = labels != teacher.pad_id  # (B, T)
    return token_records(log_probs[mask.to(log_probs.device)], labels[mask].to(log_probs.device), layout)


def _pairs(batches: Sequence[Batch], pad_id: int) -> np.ndarray:
    pairs = np.empty(sum(len(batch[0]) for batch in batches), PAIR)
    pairs["key"] = np.concatenate([pair_keys(batch[0], batch[1], batch[-1], pad_id) for batch in batches])
    pairs["tokens"] = np.concatenate([(batch[-1] != pad_id).sum(dim=1).numpy() for batch in batches])
    return pairs
