from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nemo.collections.nlp.data.machine_translation.machine_translation_dataset import TranslationDataset

from nemo_distill.text.batches import PairLimits, dropped_in_words, pack

PAIRS = st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9)), max_size=60)


def nemos(tokens_in_batch=1):
    return TranslationDataset("source", "target", tokens_in_batch=tokens_in_batch)


@given(PAIRS, st.integers(1, 120))
def test_batches_are_those_that_nemo_forms(pairs, tokens_in_batch):
    sides = [[[0] * length for length in side] for side in zip(*pairs)] or [[], []]
    expected = nemos(tokens_in_batch).pack_data_into_batches(*sides) if pairs else []
    lengths = np.array(pairs, np.int32).reshape(-1, 2).T
    assert pack(lengths[0], lengths[1], tokens_in_batch) == expected


@given(PAIRS, st.integers(1, 9), st.integers(0, 9), st.integers(0, 8), st.sampled_from([1, 1.5, 2, 100]))
def test_pairs_with_words_are_dropped_as_by_nemo(pairs, longest, shortest, difference, ratio):
    pairs = [(src + 1, tgt + 1) for src, tgt in pairs]  # at least a word on each side
    sides = [[[number] * length for number, length in enumerate(side)] for side in zip(*pairs)] or [[], []]
    expected, _ = nemos().clean_src_and_target(*sides, longest, shortest, difference, ratio)
    lengths = np.array(pairs, np.int32).reshape(-1, 2).T
    dropped = Counter()
    names = ("max_seq_length", "min_seq_length", "max_seq_length_diff", "max_seq_length_ratio")
    limits = PairLimits(**dict(zip(names, (longest, shortest, difference, ratio))))
    kept = limits.keeps(*lengths, dropped)
    assert np.flatnonzero(kept).tolist() == [ids[0] for ids in expected]
    assert dropped.total() == len(pairs) - len(expected)


@pytest.mark.parametrize(
    ("lengths", "reason"),
    [
        ((2, 5), "empty"),
        ((5, 2), "empty"),
        ((3, 11), "too_long"),
        ((3, 3), "too_short"),
        ((10, 4), "length_difference"),
        ((9, 4), "length_ratio"),
        ((8, 4), None),
    ],
)
def test_a_pair_is_counted_by_its_first_reason(lengths, reason):
    limits = PairLimits(max_seq_length=10, min_seq_length=4, max_seq_length_diff=5, max_seq_length_ratio=3)
    dropped = Counter()
    kept = limits.keeps(*(np.array([length]) for length in lengths), dropped)
    assert kept.tolist() == [reason is None]
    assert dropped == ({reason: 1} if reason else {})


def test_without_clean_every_pair_is_kept():
    dropped = Counter()
    assert PairLimits(clean=False).keeps(np.array([2, 999]), np.array([2, 3]), dropped).all() and not dropped


def test_counts_are_told_with_their_reasons():
    assert dropped_in_words(Counter(empty=1200, too_long=1)) == "1,200 empty, 1 too long"
