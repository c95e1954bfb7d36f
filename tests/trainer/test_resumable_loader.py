import pytest
import torch
from nemo.collections.common.data.dataset import ConcatDataset
from torch.utils.data import DataLoader, IterableDataset

from nemo_distill.trainer.resumable_loader import resumable_loader

SAMPLING = {
    "temperature": {"sampling_technique": "temperature", "sampling_temperature": 5},
    "random": {"sampling_technique": "random", "sampling_probabilities": [0.2, 0.8]},
    "round-robin": {"sampling_technique": "round-robin"},
}


def mixed(technique="temperature", shuffle=True):
    """A loader of two data sets of 20 and 5 batches."""
    datasets = [list(range(20)), list(range(100, 105))]
    return resumable_loader(
        DataLoader(ConcatDataset(datasets, shuffle=shuffle, **SAMPLING[technique]), batch_size=1), shuffle
    )


def loader(shuffle=True):
    return resumable_loader(DataLoader(list(range(20)), batch_size=1), shuffle)


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return [int(batch) for batch in loader]


def test_epochs_have_orders_of_their_own_and_the_same_in_every_process():
    first = loader()
    orders = [epoch(first, number) for number in (0, 1)]
    assert orders == [epoch(loader(), number) for number in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == list(range(20))


def test_without_shuffling_the_order_is_the_datas():
    assert epoch(loader(shuffle=False), 3) == list(range(20))


@pytest.mark.parametrize("loader", [loader, mixed])
@pytest.mark.parametrize("interrupted_after", [0, 7, 20])
def test_it_goes_on_with_the_batch_that_would_have_come_next(loader, interrupted_after):
    first = loader()
    first.sampler.set_epoch(2)
    batches = iter(first)
    seen = [int(next(batches)) for _ in range(interrupted_after)]
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    rest = [int(batch) for batch in resumed]
    assert seen + rest == epoch(loader(), 2)
    assert epoch(resumed, 3) == epoch(loader(), 3)


@pytest.mark.parametrize("loader", [loader, mixed])
def test_it_goes_on_after_a_second_interruption(loader):
    seen, state = [], {"epoch": 2, "handed_out": 0}
    for count in (7, 4, 9):
        resumed = loader()
        resumed.load_state_dict(state)
        batches = iter(resumed)
        seen += [int(next(batches)) for _ in range(count)]
        state = resumed.state_dict()
    assert seen == epoch(loader(), 2)[:20]


def test_streams_are_left_alone():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    stream = DataLoader(Stream())
    assert resumable_loader(stream, shuffle=True) is stream


@pytest.mark.parametrize(
    ("technique", "least", "most"), [("temperature", 6, 19), ("random", 14, 25), ("round-robin", 12, 12)]
)
def test_several_data_sets_are_sampled_in_an_order_that_depends_on_seed_and_epoch(monkeypatch, technique, least, most):
    orders = [epoch(mixed(technique), number) for number in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    small = [batch for batch in orders[0] if batch >= 100]
    large = [batch for batch in orders[0] if batch < 100]
    assert len(orders[0]) == 25 and least <= len(small) <= most
    assert len(set(large)) == len(large)
    assert all(sorted(small[start : start + 5]) == list(range(100, 105)) for start in range(0, len(small) - 4, 5))
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert epoch(mixed(technique), 0) != orders[0]


def test_without_shuffling_each_of_several_data_sets_keeps_its_order():
    found = epoch(mixed("round-robin", shuffle=False), 0)
    assert found == [batch for pair in zip(range(13), [*range(100, 105)] * 3) for batch in pair][:25]


def test_devices_share_the_batches_of_several_data_sets(monkeypatch):
    whole = epoch(mixed(), 3)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append(epoch(mixed(), 3))
    assert [len(share) for share in shares] == [13, 13]
    assert [batch for pair in zip(*shares) for batch in pair][:25] == whole
