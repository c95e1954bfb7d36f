import pytest
import torch

from nemo_distill.losses import KLDivergenceLoss, SelectiveDistillationLoss

NLL = torch.tensor([[4.0, 1.0, 3.0, 9.0], [2.0, 0.5, 9.0, 9.0]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool()


@pytest.fixture
def log_probs():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 4, 6, generator=generator).log_softmax(-1) for _ in range(2)]


def kl_of(positions, log_probs, count):
    student, teacher = log_probs
    values = [(teacher[i, j].exp() * (teacher[i, j] - student[i, j])).sum() for i, j in positions]
    return (sum(values) / count).item()


def test_batch_level_selection_takes_the_hardest_real_words(log_probs):
    """Of the five real words, 40 % are two: those of NLL 4 and 3; the padding's 9 do not count."""
    loss = SelectiveDistillationLoss(share=0.4, queue_size=0)
    found = loss(*log_probs, student_nll=NLL, mask=MASK)
    assert found.item() == pytest.approx(kl_of([(0, 0), (0, 2)], log_probs, count=5), rel=1e-5)


def test_global_level_selection_ranks_among_the_latest_words(log_probs):
    loss = SelectiveDistillationLoss(share=0.5, queue_size=8)
    loss(*log_probs, student_nll=torch.full_like(NLL, 3.5), mask=MASK)
    assert loss.queue.tolist() == [3.5] * 5
    found = loss(*log_probs, student_nll=NLL, mask=MASK)  # the queue: three of 3.5, then 4, 1, 3, 2, 0.5
    assert sorted(loss.queue.tolist()) == [0.5, 1.0, 2.0, 3.0, 3.5, 3.5, 3.5, 4.0]
    assert found.item() == pytest.approx(kl_of([(0, 0)], log_probs, count=5), rel=1e-5)


def test_a_model_that_is_evaluated_leaves_the_queue_as_it_is(log_probs):
    loss = SelectiveDistillationLoss(share=0.5, queue_size=8)
    loss(*log_probs, student_nll=torch.full_like(NLL, 3.5), mask=MASK)
    found = loss.eval()(*log_probs, student_nll=NLL, mask=MASK)  # of the five of 3.5, the greater half begins with 3.5
    assert loss.queue.tolist() == [3.5] * 5
    assert found.item() == pytest.approx(kl_of([(0, 0)], log_probs, count=5), rel=1e-5)


def test_all_words_selected_are_the_plain_loss(log_probs):
    selective = SelectiveDistillationLoss(share=1.0, queue_size=0)(
        *log_probs, student_nll=NLL, mask=MASK, temperature=2.0
    )
    assert selective.item() == pytest.approx(KLDivergenceLoss()(*log_probs, MASK, temperature=2.0).item(), rel=1e-6)


def test_the_queue_is_in_the_checkpoint(log_probs):
    saved, restored = SelectiveDistillationLoss(queue_size=3), SelectiveDistillationLoss(queue_size=3)
    saved(*log_probs, student_nll=NLL, mask=MASK)
    restored.load_state_dict(saved.state_dict())
    assert torch.equal(restored.queue, saved.queue) and len(saved.queue) == 3
    assert not list(saved.buffers())  # which DDP would make those of the first device


def test_a_batch_of_padding_alone_is_zero(log_probs):
    student = log_probs[0].clone().requires_grad_()
    for queue_size in (0, 4):
        loss = SelectiveDistillationLoss(queue_size=queue_size)(
            student, log_probs[1], NLL, mask=torch.zeros_like(MASK)
        )
        assert loss.item() == 0
        loss.backward()
        assert student.grad.abs().sum() == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"), [({"share": 0}, "share=0:"), ({"queue_size": -1}, "queue_size=-1:")]
)
def test_wrong_arguments_are_told(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        SelectiveDistillationLoss(**arguments)
