"""Arrays in untrusted files: numbers are read, and addresses are not."""

import io
import pickle
from pickle import UnpicklingError

import numpy as np
import pytest
import torch

from nemo_distill.nemo_files.saved_arrays import ARRAYS, only_allowed, unpickled_arrays, with_arrays
from tests.conftest import Harm, Pickled


def read(content):
    file = io.BytesIO()
    torch.save(content, file)
    with only_allowed(ARRAYS):
        return with_arrays(torch.load(io.BytesIO(file.getvalue()), weights_only=True))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(624, dtype=np.uint32),
        np.ones((2, 3)),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i8"),
        np.array([True, False]),
        np.array(2.5, dtype=np.float16),
    ],
)
def test_arrays_of_numbers_are_read_wherever_they_are(array):
    found = read({"a": [(1, array)], "b": array})
    for part in (found["a"][0][1], found["b"]):
        assert type(part) is np.ndarray and part.dtype == array.dtype and np.array_equal(part, array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.zeros(2, dtype=[("a", "O")]),
        np.zeros(2, dtype=[("a", "i4")]),
        np.array(["a"]),
        np.zeros(2, "M8[s]"),
        Pickled(np.ndarray, ((624,), "O", b"\x41" * 8 * 624)),
        Pickled(np.ndarray, ((624,), "i4", b"\x41" * 8 * 624)),
        Pickled(np.dtype, ("O",)),
        Pickled(np.dtype, ("i4",), (3, "<", None, ("a",), {"a": (1, 0)}, 8, 1, 27)),
        Pickled(np.dtype, ("i4",), (3, "O", None, None, None, -1, -1, 0)),
    ],
)
def test_arrays_that_hold_addresses_or_fields_are_refused(array):
    with pytest.raises(UnpicklingError):
        read([array])


def test_what_other_libraries_allow_is_not_allowed_and_is_allowed_again_afterwards():
    with torch.serialization.safe_globals([np.ndarray, np.dtype, Pickled]):
        before = torch.serialization.get_safe_globals()
        with pytest.raises(UnpicklingError):
            read(Pickled(np.ndarray, ((1,), "O", b"\0" * 8)))
        assert {*map(id, torch.serialization.get_safe_globals())} == {*map(id, before)}


def test_a_part_that_stands_for_many_is_visited_once():
    content = [np.ones(1)]
    for _ in range(60):
        content = [content, content]
    found = read(content)
    while isinstance(found[0], list):
        found = found[1]
    assert type(found[0]) is np.ndarray


def test_a_batch_of_tarred_data_holds_arrays_and_nothing_that_is_called(tmp_path):
    batch = {"src": np.arange(6).reshape(2, 3), "tgt": np.ones((2, 2), np.int32)}
    for protocol in (3, pickle.DEFAULT_PROTOCOL):
        found = unpickled_arrays(pickle.dumps(batch, protocol))
        assert all(
            np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in batch.items()
        )
    with pytest.raises(UnpicklingError, match="mkdir"):
        unpickled_arrays(pickle.dumps({"src": Harm(tmp_path / "harm")}))
    assert not (tmp_path / "harm").exists()
