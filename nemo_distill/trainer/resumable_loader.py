"""A training data loader that continues after an interruption with the next batch.

Lightning saves and restores the state of loaders that have `state_dict` and `load_state_dict`. NeMo's loader has
neither: after a restart within an epoch, it begins the epoch again in a different order.
"""

import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from nemo_distill.nemo_files.host_fixes import seeded_choices


class ResumableSampler(DistributedSampler):
    """Yields the batches of an epoch from a given position on. The order depends only on seed and epoch.

    It is a DistributedSampler even on one device, because Lightning sets its epoch and does not replace it.
    """

    resume_epoch = resume_position = 0

    @property
    def position(self) -> int:
        """Number of batches of this epoch to skip, because they were used before the interruption."""
        return self.resume_position if self.epoch == self.resume_epoch else 0

    def __iter__(self) -> Iterator[int]:
        return iter(self.order()[self.position :])

    def order(self) -> list[int]:
        """Returns the batches of this epoch for this process."""
        return list(super().__iter__())


class MixingSampler(ResumableSampler):
    """Draws from several data sets. The order, too, depends only on seed and epoch.

    A data set gives each batch once before it gives one again. Its share of the batches may be smaller or larger than
    its size, so that an epoch has some batches several times, or not at all.

    Args:
        dataset: the data sets, one after the other.
        choices: yields, for a seed, the number of the data set that each batch is from.
    """

    def __init__(self, dataset: ConcatDataset, choices: Callable[[int], Iterator[int]], **options: Any):
        super().__init__(dataset, **options)
        self._ends, self._choices = [0, *dataset.cumulative_sizes], choices

    def order(self) -> list[int]:
        return list(
            islice(self._drawn((self.seed + self.epoch) % 2**32), self.rank, self.total_size, self.num_replicas)
        )

    def _drawn(self, seed: int) -> Iterator[int]:
        generator = np.random.default_rng(seed)
        rest: list[Iterator[int]] = [iter(()) for _ in self._ends[1:]]
        for number in self._choices(seed):
            index = next(rest[number], None)
            if index is None:
                batches = np.arange(self._ends[number], self._ends[number + 1])
                rest[number] = iter((generator.permutation(batches) if self.shuffle else batches).tolist())
                index = next(rest[number])
            yield index


class ResumableDataLoader(DataLoader):
    """A DataLoader with a ResumableSampler that counts the batches of the epoch."""

    handed_out = 0

    def __iter__(self) -> Iterator[Any]:
        self.handed_out = self.sampler.position
        for batch in super().__iter__():
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.sampler.epoch, "handed_out": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.resume_epoch, self.sampler.resume_position = state["epoch"], state["handed_out"]
        # Lightning creates the first iterator before it sets the epoch of the sampler.
        self.sampler.set_epoch(state["epoch"])


def resumable_loader(loader: DataLoader | None, shuffle: bool) -> DataLoader | None:
    """Returns a resumable loader of the same batches. Streams have no known order and are returned unchanged.

    Of several data sets in memory, batches are sampled as NeMo does.

    Call it after the process group is set up, because each process loads its own part.

    Args:
        loader: NeMo's loader, whose dataset contains complete batches.
        shuffle: draw a new order in each epoch, from the global seed.
    """
    if loader is None:
        return None
    choices = seeded_choices(loader.dataset) if isinstance(loader.dataset, IterableDataset) else None
    if choices:
        datasets: ConcatDataset = ConcatDataset(loader.dataset.datasets)
        sampler: ResumableSampler = MixingSampler(datasets, choices, shuffle=shuffle, **_share())
    elif isinstance(loader.dataset, IterableDataset):
        return loader
    else:
        sampler = ResumableSampler(loader.dataset, shuffle=shuffle, **_share())
    return ResumableDataLoader(
        sampler.dataset,
        batch_size=loader.batch_size,
        sampler=sampler,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        generator=torch.Generator(),  # not the global one, which drives dropout and must not depend on loader starts
    )


def _share() -> dict[str, int]:
    """Returns the arguments of DistributedSampler that say which batches this process gets."""
    distributed = dist.is_initialized()
    return {
        "num_replicas": dist.get_world_size() if distributed else 1,
        "rank": dist.get_rank() if distributed else 0,
        "seed": int(os.environ.get("PL_GLOBAL_SEED", 0)),
    }
