"""A teacher's distributions over its own pieces become distributions over the student's."""

import pytest
import torch

from nemo_distill.losses import mapped
from nemo_distill.losses.mapped import LEAST_SHARE, MappedDistributions, PieceMap, label_log_probs
from nemo_distill.losses.projection import Logits, Projection

# Of six pieces of the teacher, two begin with the student's piece 1, and the last one with none; piece 3 is begun by none.
PIECES = PieceMap(torch.tensor([0, 1, 1, 2, 4, 4]), 5)
TAIL = PieceMap(torch.tensor([0, 1, 1, 2, 4, 5]), 5)


def test_the_probabilities_of_pieces_with_one_beginning_are_added():
    teacher = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.05, 0.2], [0.0, 0.5, 0.0, 0.5, 0.0, 0.0]])
    found = PIECES.log_probs(teacher.log()).exp()
    expected = torch.tensor([[0.1, 0.5, 0.15, LEAST_SHARE, 0.25], [0.0, 0.5, 0.5, LEAST_SHARE, 0.0]])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)


def test_the_tail_goes_to_the_pieces_that_no_piece_is_mapped_to():
    teacher = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.05, 0.2]])
    found = TAIL.log_probs(teacher.log()).exp()
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.5, 0.15, 0.2, 0.05]]))


def test_without_such_pieces_the_others_share_all_probability():
    found = PieceMap(torch.tensor([0, 1, 2, 2]), 2).log_probs(torch.tensor([[0.2, 0.6, 0.1, 0.1]]).log()).exp()
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75]]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_rows_sum_to_one_at_every_temperature(temperature):
    torch.manual_seed(0)
    pieces = PieceMap(torch.randint(0, 31, (100,)), 30)
    found = pieces.log_probs(torch.randn(7, 100).mul(5).log_softmax(dim=-1), temperature)
    torch.testing.assert_close(found.exp().sum(dim=-1), torch.ones(7))


def test_equal_pieces_give_the_teachers_own_distribution():
    log_probs = torch.randn(4, 9).log_softmax(dim=-1)
    torch.testing.assert_close(PieceMap(torch.arange(9), 9).log_probs(log_probs), log_probs)
    tempered = PieceMap(torch.arange(9), 9).log_probs(log_probs, 3.0)
    torch.testing.assert_close(tempered, (log_probs / 3).log_softmax(dim=-1))


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    return Projection(torch.randn(2, 3, 4), torch.randn(6, 4), torch.randn(6))


def test_distributions_are_read_at_the_paired_positions(teacher, monkeypatch):
    monkeypatch.setattr(mapped, "ELEMENTS", 13)  # two tokens at a time
    positions = torch.tensor([[0, 0, 1, 2], [2, 1, 1, 0]])
    distributions = MappedDistributions(teacher, positions, TAIL)
    whole = teacher.tempered_log_probs()  # (2, 3, 6)
    expected = torch.stack([TAIL.log_probs(whole[row, positions[row]]) for row in range(2)])  # (2, 4, 5)
    torch.testing.assert_close(distributions.whole(), expected)
    tokens = torch.tensor([0, 1, 1]), torch.tensor([3, 0, 2])
    torch.testing.assert_close(distributions.select(tokens).project().tempered_log_probs(), expected[tokens])
    logits = MappedDistributions(Logits(whole.clone()), positions, TAIL)
    torch.testing.assert_close(logits.select(tokens).tempered_log_probs(), expected[tokens])


def test_no_token_gives_no_distribution(teacher):
    none = torch.zeros(0, dtype=torch.long)
    found = MappedDistributions(teacher, torch.zeros(2, 4, dtype=torch.long), TAIL).select((none, none))
    assert found.tempered_log_probs(2.0).shape == (0, 5)


def test_labels_get_their_log_probability_where_the_mask_is_true(teacher, monkeypatch):
    monkeypatch.setattr(mapped, "ELEMENTS", 13)
    labels, mask = torch.tensor([[5, 0, 1], [2, 2, 0]]), torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    expected = teacher.tempered_log_probs().gather(-1, labels.unsqueeze(-1)).squeeze(-1) * mask
    torch.testing.assert_close(label_log_probs(teacher, labels, mask), expected)
