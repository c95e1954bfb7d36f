import os
import resource

import numpy as np
import pytest

from nemo_distill.config.errors import DataError
from nemo_distill.storage.shard_folder import ShardError
from nemo_distill.teacher_cache.cache import MissingPairError, TeacherCache, read_manifest
from nemo_distill.teacher_cache.records import pair_keys
from tests.teacher_cache.fakes import PAD, batch_of, build_cache, random_pairs

PAIRS = random_pairs(30, seed=0)


@pytest.fixture
def folder(tmp_path):
    build_cache(tmp_path / "cache", [PAIRS[:10], PAIRS[10:20], PAIRS[20:]])
    return tmp_path / "cache"


def keys_of(pairs):
    src_ids, src_mask, _, _, labels = batch_of(pairs)
    return pair_keys(src_ids, src_mask, labels, PAD)


def test_tokens_come_in_the_order_of_the_pairs_that_are_asked_for(folder):
    cache = TeacherCache(folder)
    wanted = [PAIRS[25], PAIRS[3], PAIRS[12], PAIRS[3]]
    one_by_one = [cache.records(keys_of([pair])) for pair in wanted]
    assert [len(records) for records in one_by_one] == [len(target) - 1 for _, target in wanted]
    assert np.array_equal(cache.records(keys_of(wanted)), np.concatenate(one_by_one))


@pytest.mark.parametrize("key", [b"\0" * 15 + b"\1", b"\xff" * 16])
def test_a_missing_pair_is_told_by_its_row(folder, key):
    keys = keys_of(PAIRS[:5])
    keys[3] = key
    with pytest.raises(MissingPairError) as error:
        TeacherCache(folder).records(keys)
    assert error.value.row == 3


def test_a_cache_may_have_more_shards_than_files_may_be_open(tmp_path):
    """A file that is mapped into memory counts as open."""
    pairs = random_pairs(400, seed=1)
    build_cache(tmp_path / "cache", [[pair] for pair in pairs], shard_pairs=1)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 300, limits[1]))
    try:
        cache = TeacherCache(tmp_path / "cache")
        assert len(cache.manifest["shards"]) > 600
        backwards = cache.records(keys_of(pairs[::-1]))
        assert np.array_equal(backwards[-len(pairs[0][1]) + 1 :], cache.records(keys_of(pairs[:1])))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_an_unfinished_cache_is_refused(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="holds no finished teacher cache; create it with 'nemo-distill cache'"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["index.keys.npy", "index.places.npy", "teacher.nemo"])
def test_a_changed_index_is_refused(folder, name):
    with (folder / name).open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"?")
    with pytest.raises(ShardError, match=f"{name}' does not match its checksum in manifest.json"):
        TeacherCache(folder)


def test_a_truncated_shard_is_refused(folder):
    path = folder / "shards" / "shard-000001.tokens.npy"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ShardError, match="shard-000001.tokens.npy' does not match"):
        TeacherCache(folder)
