"""Spans of text are compared by how likely teacher and student find them."""

import math

import pytest
import torch

from nemo_distill.losses import SpanLikelihoodLoss

# The first sentence has spans of 2 and 1 pieces and a piece of none, the second one span and padding.
SPANS = torch.tensor([[0, 0, 1, -1], [0, -1, -1, -1]])
TEACHER = torch.tensor([[0.5, 0.25], [0.125, 1.0]]).log()
NLL = torch.tensor([[0.5, 1.0, 0.3, 9.0], [2.0, 7.0, 7.0, 7.0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]).bool()


def naive(student, teacher, tau):
    """τ KL between two Bernoulli distributions, from likelihoods."""
    p, q = (likelihood ** (1 / tau) * (1 - 1e-6) for likelihood in (student, teacher))
    return tau * (q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)))


@pytest.mark.parametrize("tau", [1.0, 10.0, 100.0])
def test_each_span_counts_once(tau):
    loss = SpanLikelihoodLoss(tau)
    pairs = [(math.exp(-1.5), 0.5), (math.exp(-0.3), 0.25), (math.exp(-2.0), 0.125)]
    expected = sum(naive(*pair, tau) for pair in pairs) / 3
    assert loss(NLL.double(), [TEACHER.double(), SPANS], MASK).item() == pytest.approx(expected, rel=1e-3)


def test_with_a_large_tau_it_compares_negative_log_likelihoods():
    """The limit is the generalized KL divergence between them: x_s - x_t + x_t log(x_t / x_s)."""
    student, teacher = torch.tensor([[1.5]]), torch.tensor([[-0.7]])
    found = SpanLikelihoodLoss(10_000.0)(student, [teacher, torch.tensor([[0]])])
    assert found.item() == pytest.approx(1.5 - 0.7 + 0.7 * math.log(0.7 / 1.5), abs=0.02)


def test_equal_likelihoods_cost_nothing_and_certainty_is_finite():
    nll = torch.tensor([[0.4, 0.6, 0.0]], requires_grad=True)
    spans = [torch.tensor([[-1.0, 0.0]]), torch.tensor([[0, 0, 1]])]
    loss = SpanLikelihoodLoss()(nll, spans)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5) and nll.grad.abs().max() < 1e-2
    certain = SpanLikelihoodLoss()(torch.tensor([[0.0]]), [torch.tensor([[-3.0]]), torch.tensor([[0]])])
    assert math.isfinite(certain.item()) and certain.item() > 1


def test_spans_have_the_weights_of_their_pairs():
    weights = torch.tensor([[0.5], [3.0]])
    rows = [
        SpanLikelihoodLoss()(NLL[i : i + 1], [TEACHER[i : i + 1], SPANS[i : i + 1]], MASK[i : i + 1]) for i in (0, 1)
    ]
    found = SpanLikelihoodLoss()(NLL, [TEACHER, SPANS], MASK * weights)
    assert found.item() == pytest.approx((2 * 0.5 * rows[0] + 3.0 * rows[1]).item() / (2 * 0.5 + 3.0), rel=1e-5)


def test_a_batch_without_spans_costs_nothing():
    nll = NLL.clone().requires_grad_()
    loss = SpanLikelihoodLoss()(nll, [torch.zeros(2, 1), torch.full((2, 4), -1)], MASK)
    loss.backward()
    assert loss.item() == 0 and nll.grad.abs().max() == 0


def test_padding_changes_nothing_and_only_the_student_is_trained():
    nll, teacher = NLL.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    loss = SpanLikelihoodLoss()(nll, [teacher.detach(), SPANS], MASK)
    loss.backward()
    assert (nll.grad != 0).tolist() == (SPANS >= 0).tolist() and teacher.grad is None
    wider = [torch.cat((tensor, tensor[:, :2]), dim=1) for tensor in (NLL, SPANS, MASK)]
    wider[2][:, 4:] = False
    torch.testing.assert_close(SpanLikelihoodLoss()(wider[0], [TEACHER, wider[1]], wider[2]), loss.detach())


def test_tau_must_be_above_0():
    with pytest.raises(ValueError, match="tau=0"):
        SpanLikelihoodLoss(tau=0)
