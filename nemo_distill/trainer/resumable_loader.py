"""A training data loader that continues after an interruption with the next batch.

Lightning saves and restores the state of loaders that have `state_dict` and `load_state_dict`. NeMo's loader has
neither: after a restart within an epoch, it begins the epoch again in a different order.
"""

import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler


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
        return iter(list(super().__iter__())[self.position :])


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

    Call it after the process group is set up, because each process loads its own part.

    Args:
        loader: NeMo's loader, whose dataset contains complete batches.
        shuffle: draw a new order in each epoch, from the global seed.
    """
    if loader is None or isinstance(loader.dataset, IterableDataset):
        return loader
    distributed = dist.is_available() and dist.is_initialized()
    sampler = ResumableSampler(
        loader.dataset,
        num_replicas=dist.get_world_size() if distributed else 1,
        rank=dist.get_rank() if distributed else 0,
        shuffle=shuffle,
        seed=int(os.environ.get("PL_GLOBAL_SEED", 0)),
    )
    return ResumableDataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=sampler,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        generator=torch.Generator(),  # not the global one, which drives dropout and must not depend on loader starts
    )
