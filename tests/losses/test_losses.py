"""What every loss must satisfy, and hand-computed cases of each."""

import math

import pytest
import torch
import torch.nn.functional as F

from nemo_distill.losses import CosineEmbeddingLoss, KLDivergenceLoss

LOSSES = {"kl": KLDivergenceLoss(temperature=2.0), "cosine": CosineEmbeddingLoss()}


def call(loss, student, teacher, mask=None):
    (argument,) = loss.consumes
    if argument == "log_probs":
        student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    return loss(**{f"student_{argument}": student, f"teacher_{argument}": teacher, "mask": mask})


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    shape = (3, 5, 7)
    student = torch.randn(shape, generator=generator, requires_grad=True)
    teacher = torch.randn(shape, generator=generator, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()
    return student, teacher, mask


def test_kl_of_a_hand_computed_case():
    student = torch.tensor([[[0.5, 0.5]]]).log()
    teacher = torch.tensor([[[0.75, 0.25]]]).log()
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert KLDivergenceLoss(temperature=1.0)(student, teacher).item() == pytest.approx(expected)
    assert KLDivergenceLoss(temperature=3.0)(student, teacher).item() == pytest.approx(9 * expected)
    unscaled = KLDivergenceLoss(temperature=3.0, scale_by_temperature_squared=False)
    assert unscaled(student, teacher).item() == pytest.approx(expected)


def test_kl_agrees_with_a_sum_written_out(tensors):
    student, teacher, mask = tensors
    total, count = 0.0, 0
    for row, column in mask.nonzero().tolist():
        p, q = student[row, column].softmax(-1), teacher[row, column].softmax(-1)
        total += sum(q[k].item() * math.log(q[k].item() / p[k].item()) for k in range(7))
        count += 1
    assert call(KLDivergenceLoss(1.0), student, teacher, mask).item() == pytest.approx(total / count, rel=1e-5)


def test_kl_differs_from_cross_entropy_by_the_teachers_entropy(tensors):
    student, teacher, mask = tensors
    q = teacher.softmax(-1)
    cross_entropy = -(q * student.log_softmax(-1)).sum(-1)[mask].mean()
    entropy = -(q * q.log()).sum(-1)[mask].mean()
    assert call(KLDivergenceLoss(1.0), student, teacher, mask).item() == pytest.approx(
        (cross_entropy - entropy).item(), rel=1e-4
    )


@pytest.mark.parametrize(("student", "expected"), [([2.0, 0.0], 0.0), ([0.0, 3.0], 1.0), ([-1.0, 0.0], 2.0)])
def test_cosine_of_same_right_and_opposite_directions(student, expected):
    loss = CosineEmbeddingLoss()(torch.tensor([[student]]), torch.tensor([[[5.0, 0.0]]]))
    assert loss.item() == pytest.approx(expected)


def test_cosine_agrees_with_torchs_loss(tensors):
    student, teacher, mask = tensors
    expected = F.cosine_embedding_loss(student[mask], teacher[mask], torch.ones(int(mask.sum())))
    assert call(CosineEmbeddingLoss(), student, teacher, mask).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_padding_changes_nothing(name, tensors):
    student, teacher, mask = tensors
    other = [F.pad(tensor, (0, 0, 0, 4), value=1e4) for tensor in (student, teacher)]
    padded = call(LOSSES[name], *other, F.pad(mask, (0, 4)))
    assert padded.item() == pytest.approx(call(LOSSES[name], student, teacher, mask).item(), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_padding_alone_is_zero_with_finite_gradients(name, tensors):
    student, teacher, mask = tensors
    loss = call(LOSSES[name], student, teacher, torch.zeros_like(mask))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_reach_real_positions_and_no_others(name, tensors):
    student, teacher, mask = tensors
    call(LOSSES[name], student, teacher.detach(), mask).backward()
    touched = student.grad.abs().sum(-1) > 0
    assert torch.equal(touched, mask)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_models_have_no_loss(name, tensors):
    _, teacher, mask = tensors
    assert call(LOSSES[name], teacher, teacher, mask).item() == pytest.approx(0.0, abs=1e-6)


def test_at_high_temperature_the_gradient_is_the_logits_difference(tensors):
    """Hinton et al. 2015, eq. 4: for zero-mean logits, (student - teacher) / V as T grows."""
    student, teacher, _ = (tensor.detach().double() for tensor in tensors)
    student, teacher = (logits - logits.mean(-1, keepdim=True) for logits in (student, teacher))
    student.requires_grad_()
    limit = (student - teacher).detach() / student.shape[-1] / 15  # mean over 15 positions
    errors = []
    for temperature in (1.0, 10.0, 100.0):
        student.grad = None
        log_probs = [(logits / temperature).log_softmax(-1) for logits in (student, teacher)]
        KLDivergenceLoss(temperature)(*log_probs).backward()
        errors.append((student.grad - limit).abs().max().item())
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
