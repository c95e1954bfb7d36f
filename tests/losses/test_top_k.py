import math

import pytest
import torch

from nemo_distill.losses import KLDivergenceLoss
from nemo_distill.losses.top_k import LOG_ZERO, TAILS, TopK, top_k_of

PROBABILITIES = [0.5, 0.3, 0.1, 0.06, 0.04]


def of_five(tail, k=2):
    return top_k_of(torch.tensor(PROBABILITIES).log(), k, tail)


@pytest.mark.parametrize(
    "tail, temperature, expected",
    [
        ("renormalize", 1.0, [0.5 / 0.8, 0.3 / 0.8, 0, 0, 0]),
        # At T = 0.5 probabilities are squared before they are normalised.
        ("renormalize", 0.5, [0.25 / 0.34, 0.09 / 0.34, 0, 0, 0]),
        ("uniform", 1.0, [0.5, 0.3, 0.2 / 3, 0.2 / 3, 0.2 / 3]),
        ("uniform", 0.5, [weight / (0.34 + 0.04 / 3) for weight in (0.25, 0.09, 0.04 / 9, 0.04 / 9, 0.04 / 9)]),
    ],
)
def test_the_tail_policies_by_hand(tail, temperature, expected):
    assert of_five(tail).tempered_log_probs(temperature).exp().tolist() == pytest.approx(expected, abs=1e-6)


def test_what_is_kept_is_the_most_probable_words_and_the_probability_of_the_others():
    kept = of_five("renormalize", k=3)
    assert kept.ids.tolist() == [0, 1, 2]
    assert kept.rest.exp().item() == pytest.approx(0.1)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_all_words_kept_are_the_models_own_distribution_at_any_temperature(tail, temperature):
    logits = torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(0)) * 4
    dense = top_k_of(logits.log_softmax(-1), 11, tail).tempered_log_probs(temperature)
    torch.testing.assert_close(dense, (logits / temperature).log_softmax(-1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_a_tail_that_is_uniform_is_given_back_exactly(temperature):
    logits = torch.tensor([3.0, 1.0, 2.0, -1.0, -1.0, -1.0, -1.0])
    dense = top_k_of(logits.log_softmax(-1), 3, "uniform").tempered_log_probs(temperature)
    torch.testing.assert_close(dense, (logits / temperature).log_softmax(-1))


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_the_distribution_sums_to_one_in_both_forms(tail, temperature):
    logits = torch.randn(4, 20, generator=torch.Generator().manual_seed(1)) * 3
    kept = top_k_of(logits.log_softmax(-1), 5, tail)
    log_probs, other = kept.tempered(temperature)
    total = log_probs.exp().sum(-1) + 15 * other.exp()
    torch.testing.assert_close(total, torch.ones(4))
    torch.testing.assert_close(kept.tempered_log_probs(temperature).exp().sum(-1), torch.ones(4))


@pytest.mark.parametrize("tail", TAILS)
def test_words_without_probability_add_nothing_to_a_loss_and_no_nan(tail):
    student = torch.randn(1, 2, 30, generator=torch.Generator().manual_seed(2), requires_grad=True)
    # A teacher as certain as one can be: of its other words nothing is left.
    certain = torch.full((1, 2, 30), -math.inf)
    certain[..., 7] = 0.0
    kept = top_k_of(certain, 1, tail)
    assert kept.tempered()[1].eq(LOG_ZERO).all()
    loss = KLDivergenceLoss()(student.log_softmax(-1), kept.tempered_log_probs())
    loss.backward()
    assert loss.item() == pytest.approx(-student.log_softmax(-1)[..., 7].mean().item())
    assert student.grad.isfinite().all()


def test_half_precision_moves_a_loss_by_less_than_a_thousandth():
    generator = torch.Generator().manual_seed(3)
    teacher, student = (torch.randn(50, 1000, generator=generator) * 3 for _ in range(2))
    full = top_k_of(teacher.log_softmax(-1), 64)
    half = TopK(full.ids, full.log_probs.half().float(), full.rest.half().float(), 1000)
    losses = [
        KLDivergenceLoss()(student.log_softmax(-1)[None], kept.tempered_log_probs(2.0)[None], temperature=2.0).item()
        for kept in (full, half)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_some_positions_are_those_of_all():
    kept = top_k_of(torch.randn(3, 4, 9, generator=torch.Generator().manual_seed(4)).log_softmax(-1), 2, "uniform")
    mask = torch.tensor([[True, False, True, True], [False] * 4, [True] * 4])
    assert torch.equal(kept.select(mask).tempered_log_probs(2.0), kept.tempered_log_probs(2.0)[mask])
    assert torch.equal(kept.select(slice(1, 2)).ids, kept.ids[1:2])


def test_an_unknown_tail_policy_is_named():
    with pytest.raises(ValueError, match="tail=flat: must be one of renormalize, uniform"):
        of_five("flat")


def test_a_position_without_a_distribution_is_finite_at_any_temperature():
    lowest = torch.finfo(torch.float32).min
    nothing = TopK(torch.tensor([[0, 1]]), torch.full((1, 2), lowest), torch.tensor([lowest]), 5, "uniform")
    for temperature in (0.5, 1.0, 2.0):
        assert all(torch.isfinite(values).all() for values in nothing.tempered(temperature))
