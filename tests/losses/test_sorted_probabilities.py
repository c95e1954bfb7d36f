"""Sorted probabilities are compared position by position."""

import pytest
import torch

from nemo_distill.losses import SortedProbabilitiesLoss

REAL = torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()  # of the teacher
MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]).bool()  # of the student


def distributions(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).log_softmax(
        -1
    )


def test_it_is_the_mean_over_positions_that_both_have():
    student, teacher = distributions(2, 4, 3), distributions(2, 3, 5)
    differences = []
    for row, position in ((0, 0), (0, 1), (1, 0)):
        ours = sorted([*student[row, position].exp().tolist(), 0, 0], reverse=True)
        theirs = sorted(teacher[row, position].exp().tolist(), reverse=True)
        differences.append(sum(abs(p - q) for p, q in zip(ours, theirs)))
    found = SortedProbabilitiesLoss()([teacher, REAL], student, MASK)
    assert found.item() == pytest.approx(sum(differences) / 3)
    swapped = SortedProbabilitiesLoss()([student, MASK], teacher, REAL)
    assert swapped.item() == pytest.approx(found.item())


def test_it_does_not_know_which_pieces_are_equal():
    student = distributions(2, 4, 3)
    assert SortedProbabilitiesLoss()([student.flip(-1), MASK], student, MASK).item() == pytest.approx(0)


def test_only_positions_that_both_have_are_trained():
    student = distributions(2, 4, 3).requires_grad_()
    SortedProbabilitiesLoss()([distributions(2, 3, 5), REAL], student, MASK).backward()
    assert student.grad.abs().sum(dim=-1).bool().tolist() == [[True, True, False, False], [True, False, False, False]]
    nothing = SortedProbabilitiesLoss()([distributions(2, 3, 5), REAL & False], student, MASK)
    assert nothing.item() == 0
