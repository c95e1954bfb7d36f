import hashlib
import random
import tracemalloc

import numpy as np
import pytest

from nemo_distill.storage.sorted_on_disk import SortedOnDisk

RECORD = np.dtype([("key", "S8"), ("number", "<u8")])


def records(values, first=0):
    """Each with the hash of its value, numbered from `first` on."""
    keys = [hashlib.blake2b(str(value).encode(), digest_size=8).digest() for value in values]
    return np.array(list(zip(keys, range(first, first + len(keys)))), RECORD)


@pytest.mark.parametrize("values", [[], [1], [3, 1, 3, 3, 2, 1], random.Random(0).choices(range(500), k=2000)])
@pytest.mark.parametrize("at_a_time", [1, 7, 5000])
def test_records_come_in_the_order_of_keys_and_equal_ones_as_they_were_added(tmp_path, values, at_a_time):
    everything = records(values)
    with SortedOnDisk(RECORD, tmp_path) as by_key:
        for begin in range(0, len(values), at_a_time):
            by_key.add(everything[begin : begin + at_a_time])
        assert np.concatenate(list(by_key.parts())).tolist() == sorted(everything.tolist())
        naive = [index for index, value in enumerate(values) if value in values[:index]]
        assert by_key.repeated("number").tolist() == naive
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_the_records_is_in_memory_at_a_time(tmp_path):
    count = 100_000
    with SortedOnDisk(RECORD, tmp_path) as by_key:
        for first in range(0, count, 1000):
            by_key.add(records(range(first, first + 1000), first))
        tracemalloc.start()
        assert sum(len(part) for part in by_key.parts()) == count
        assert tracemalloc.get_traced_memory()[1] < count * RECORD.itemsize / 20
        tracemalloc.stop()
