import pytest
import torch

from nemo_distill.losses import TopOneRankingLoss


def loss(student, teacher, k=2):
    return TopOneRankingLoss(k)(torch.tensor([[student]]).log(), torch.tensor([[teacher]]).log()).item()


def test_a_student_that_ranks_as_its_teacher_has_no_loss():
    assert loss([0.5, 0.3, 0.1, 0.1], [0.9, 0.06, 0.03, 0.01]) == pytest.approx(0.0, abs=1e-6)


def test_two_words_in_the_wrong_order():
    """The teacher's second lies 0.2 above its first; of the student's best, the same word lies 0.2 above what q ranks higher."""
    assert loss([0.3, 0.5, 0.1, 0.1], [0.6, 0.2, 0.15, 0.05]) == pytest.approx(0.2 + 0.2, abs=1e-6)


def test_a_word_that_the_teacher_does_not_rank_at_all():
    """q ranks 0, 1; p ranks 3, 0. Word 3 lies 0.3 above 0 and 0.5 above 1 in p, and q ranks both higher; 0 is above 1 rightly."""
    assert loss([0.3, 0.1, 0.0001, 0.5999], [0.6, 0.3, 0.06, 0.04]) == pytest.approx(0.2999 + 0.4999, abs=1e-4)


def test_one_word_cannot_be_ranked():
    with pytest.raises(ValueError, match="k=1: must be at least 2"):
        TopOneRankingLoss(k=1)


def test_more_words_than_there_are_compare_all_of_them():
    student, teacher = [0.3, 0.5, 0.1, 0.1], [0.6, 0.2, 0.15, 0.05]
    assert loss(student, teacher, k=9) == loss(student, teacher, k=4)
