import pytest

from nemo_distill.teacher_cache.keys import pair_keys
from tests.teacher_cache.fakes import PAD, batch_of


def keys(pairs, padding=0):
    src_ids, src_mask, _, _, labels = batch_of(pairs, padding)
    return pair_keys(src_ids, src_mask, labels, PAD).tolist()


def test_a_key_depends_on_neither_padding_nor_the_other_pairs():
    long, short = ([5, 6, 7, 8], [1, 9, 9, 9, 2]), ([5], [1, 2])
    assert keys([long, short]) == keys([long], padding=3) + keys([short])


@pytest.mark.parametrize("other", [([5, 7], [1, 8, 2]), ([5, 6, 8], [1, 2]), ([5], [1, 6, 8, 2]), ([5, 6], [1, 2, 8])])
def test_other_pairs_have_other_keys(other):
    assert keys([([5, 6], [1, 8, 2])]) != keys([other])
