import pytest
from torch.utils.data import DataLoader, IterableDataset

from nemo_distill.trainer.resumable_loader import resumable_loader


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


@pytest.mark.parametrize("interrupted_after", [0, 7, 20])
def test_it_goes_on_with_the_batch_that_would_have_come_next(interrupted_after):
    first = loader()
    first.sampler.set_epoch(2)
    batches = iter(first)
    seen = [int(next(batches)) for _ in range(interrupted_after)]
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    rest = [int(batch) for batch in resumed]
    assert seen + rest == epoch(loader(), 2)
    assert epoch(resumed, 3) == epoch(loader(), 3)


def test_streams_are_left_alone():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    stream = DataLoader(Stream())
    assert resumable_loader(stream, shuffle=True) is stream
