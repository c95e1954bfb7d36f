"""A cache, however its pairs are shared and its making interrupted: the same bytes."""

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pseudo_labels.fakes import contents
from tests.teacher_cache.fakes import FakeTeacher, build_cache, random_pairs

FEWER = settings.default.max_examples // 5  # each makes up to five caches


@settings(max_examples=FEWER)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 12), st.integers(1, 4), st.integers(0, 6))
def test_a_cache_is_the_same_bytes_whoever_makes_it_and_is_interrupted(sizes, shard_pairs, world_size, stop):
    pairs = iter(random_pairs(sum(sizes), seed=len(sizes)))
    batches = [[next(pairs) for _ in range(size)] for size in sizes]
    with tempfile.TemporaryDirectory() as name:
        whole, shared = Path(name) / "whole" / "cache", Path(name) / "shared" / "cache"
        build_cache(whole, batches, shard_pairs=shard_pairs)
        with suppress(KeyboardInterrupt):
            build_cache(shared, batches, FakeTeacher(batches, stop), 0, world_size, shard_pairs=shard_pairs)
        for rank in reversed(range(world_size)):
            build_cache(shared, batches, None, rank, world_size, shard_pairs=shard_pairs)
        assert contents(shared) == contents(whole)
