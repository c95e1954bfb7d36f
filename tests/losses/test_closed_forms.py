"""Gradients by formula are those of autograd."""

import pytest
import torch

from nemo_distill.losses import (
    CrossEntropyLoss,
    JensenShannonLoss,
    KLDivergenceLoss,
    ReverseKLDivergenceLoss,
    TopOneRankingLoss,
)
from nemo_distill.losses.closed_forms import by_autograd, differentiate
from nemo_distill.losses.labels import SmoothedLabels

LOSSES = [
    KLDivergenceLoss(),
    CrossEntropyLoss(),
    ReverseKLDivergenceLoss(),
    TopOneRankingLoss(k=3),
    *(JensenShannonLoss(beta) for beta in (0.0, 0.3, 0.5, 1.0)),
]


@pytest.fixture
def logits():
    return torch.randn(2, 6, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(3)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{type(loss).__name__}{getattr(loss, 'beta', '')}")
def test_a_losss_closed_form_agrees_with_autograd_through_the_logits(loss, logits):
    student, teacher = logits[0].requires_grad_(), logits[1].log_softmax(-1)
    expected = loss.per_token(student.log_softmax(-1), teacher)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), student)
    values, gradient = differentiate(loss, student.detach().log_softmax(-1), teacher)
    assert torch.allclose(values, expected, atol=1e-12)
    assert torch.allclose(gradient, expected_gradient, atol=1e-12)


class Squared(KLDivergenceLoss):
    def per_token(self, student_log_probs, teacher_log_probs):
        return super().per_token(student_log_probs, teacher_log_probs).square()


def test_a_subclass_has_its_own_gradient(logits):
    student, teacher = logits.log_softmax(-1)
    found, expected = differentiate(Squared(), student, teacher), by_autograd(Squared(), student, teacher)
    assert all(torch.equal(*pair) for pair in zip(found, expected))
    assert not torch.allclose(found[1], differentiate(KLDivergenceLoss(), student, teacher)[1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_of_labels_agrees_with_autograd(smoothing, logits):
    leaf = logits[0].requires_grad_()
    labels = SmoothedLabels(torch.tensor([0, 10, 3, 3, 5, 1]), smoothing)
    values = labels.per_token(leaf.log_softmax(-1))
    (expected,) = torch.autograd.grad(values.sum(), leaf)
    assert torch.allclose(labels.gradient(leaf.detach().log_softmax(-1)), expected, atol=1e-12)


def test_smoothing_gives_every_other_word_the_same_small_share():
    log_probs = torch.tensor([[0.7, 0.2, 0.1]]).log()
    expected = -(0.9 * log_probs[0, 1] + 0.05 * (log_probs[0, 0] + log_probs[0, 2]))
    assert SmoothedLabels(torch.tensor([1]), 0.1).per_token(log_probs).item() == pytest.approx(expected.item())
