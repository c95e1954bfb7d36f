import math

import numpy as np
import pytest
import torch

from nemo_distill.losses import CrossEntropyLoss, KLDivergenceLoss
from nemo_distill.losses.fused import fused_losses
from nemo_distill.losses.projection import Projection
from nemo_distill.losses.top_k import TAILS, top_k_of
from nemo_distill.teacher_cache.records import kept_words, padded, pair_keys, token_records, token_type
from tests.teacher_cache.fakes import PAD, batch_of


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


WORDS = 12
PEAKED = torch.tensor([30.0, 3.0, 2.5] + [0.0] * (WORDS - 3)).log_softmax(-1)
DISTRIBUTIONS = {
    "one_hot": torch.full((WORDS,), -torch.inf).index_fill(0, torch.tensor(5), 0.0),
    "two_words": torch.full((WORDS,), -torch.inf).index_fill(0, torch.tensor([2, 5]), math.log(0.5)),
    "nearly_one_hot": PEAKED,
    "flat": torch.zeros(WORDS).log_softmax(-1),
    "usual": (3 * torch.randn(WORDS, generator=torch.Generator().manual_seed(0))).log_softmax(-1),
}


def cut_down_exactly(log_probs, k, tail, temperature):
    """The probabilities (V,) in float64 that the tail policy makes of the k best words, written out."""
    probabilities = log_probs.double().exp()
    best = probabilities.topk(k).indices
    kept = torch.zeros_like(probabilities).index_copy(0, best, probabilities[best])
    if tail == "uniform" and k < len(kept):
        others = torch.ones_like(kept).index_fill(0, best, 0.0)
        kept = kept + others * (probabilities * others).sum() / others.sum()
    tempered = kept ** (1 / temperature)
    return tempered / tempered.sum()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, 4, WORDS])
@pytest.mark.parametrize("temperature", [0.25, 1.0, 5.0])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_losses_from_a_cache_are_those_of_the_exact_probabilities(name, temperature, k, tail, dtype):
    log_probs = DISTRIBUTIONS[name].unsqueeze(0)  # (1, V)
    records = token_records(log_probs, torch.tensor([5]), token_type(k, WORDS, dtype))
    cached = kept_words(records, torch.ones(1, 1, dtype=torch.bool), WORDS, tail)
    q = cut_down_exactly(log_probs[0], k, tail, temperature)
    error = 4e-3 if dtype == "float16" else 1e-5
    assert (cached.tempered_log_probs(temperature)[0, 0].double().exp() - q).abs().sum() < error

    logits = torch.randn(1, 1, WORDS, generator=torch.Generator().manual_seed(1)).requires_grad_()
    p = (logits.detach()[0, 0].double() / temperature).softmax(-1)
    expected = {
        KLDivergenceLoss: (torch.special.xlogy(q, q) - q * p.log()).sum(),
        CrossEntropyLoss: -(q * p.log()).sum(),
    }
    for kind, value in expected.items():
        loss = kind(scale_by_temperature_squared=False)
        fused = fused_losses(Projection(logits, torch.eye(WORDS)), cached, None, [loss], [1.0], temperature)[0]
        student, teacher = (logits / temperature).log_softmax(-1), cached.tempered_log_probs(temperature)
        for found in (fused, loss(student, teacher)):
            (gradient,) = torch.autograd.grad(found, logits, retain_graph=True)
            assert found.item() == pytest.approx(value.item(), abs=4 * error)
            assert (gradient[0, 0].double() - (p - q) / temperature).abs().sum() < error / temperature + 1e-6


def keys(pairs, padding=0):
    src_ids, src_mask, _, _, labels = batch_of(pairs, padding)
    return pair_keys(src_ids, src_mask, labels, PAD).tolist()


def test_a_key_depends_on_neither_padding_nor_the_other_pairs():
    long, short = ([5, 6, 7, 8], [1, 9, 9, 9, 2]), ([5], [1, 2])
    assert keys([long, short]) == keys([long], padding=3) + keys([short])


@pytest.mark.parametrize("other", [([5, 7], [1, 8, 2]), ([5, 6, 8], [1, 2]), ([5], [1, 6, 8, 2]), ([5, 6], [1, 2, 8])])
def test_other_pairs_have_other_keys(other):
    assert keys([([5, 6], [1, 8, 2])]) != keys([other])
