import numpy as np
import pytest
import torch

from nemo_distill.losses.top_k import top_k_of
from nemo_distill.teacher_cache.records import kept_words, padded, token_records, token_type


@pytest.mark.parametrize(
    "vocab_size, type_", [(256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.uint32)]
)
def test_ids_take_the_smallest_type_that_holds_them(vocab_size, type_):
    assert token_type(64, vocab_size, "float16")["ids"].base == type_


@pytest.mark.parametrize("vocab_size", [200, 300, 70_000])
def test_records_give_back_what_was_kept_at_the_tokens_places(vocab_size):
    log_probs = torch.randn(3, vocab_size, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    labels = torch.tensor([0, vocab_size - 1, 5])
    records = token_records(log_probs, labels, token_type(4, vocab_size, "float32"))
    mask = torch.tensor([[True, True, False], [True, False, False]])
    found, expected = kept_words(records, mask, vocab_size, "uniform"), top_k_of(log_probs, 4, "uniform")
    for values, wanted in (
        (found.ids, expected.ids),
        (found.log_probs, expected.log_probs),
        (found.rest, expected.rest),
    ):
        assert torch.equal(values[mask], wanted) and not values[~mask].any()
    assert torch.equal(padded(records["label"], mask, torch.float32)[mask], log_probs[range(3), labels])


def test_a_probability_that_half_precision_cannot_hold_is_the_least_that_it_can():
    log_probs = torch.tensor([[0.0, -1e6, -1e6]])
    (record,) = token_records(log_probs, torch.tensor([1]), token_type(2, 3, "float16"))
    assert record["log_probs"].tolist() == [0.0, -65504.0] and record["label"] == record["rest"] == -65504.0
