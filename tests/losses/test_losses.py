"""What every loss must satisfy, and hand-computed cases of each."""

import math

import pytest
import torch
import torch.nn.functional as F

from nemo_distill.losses import (
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    JensenShannonLoss,
    KLDivergenceLoss,
    MeanSquaredErrorLoss,
    ReverseKLDivergenceLoss,
    TopOneRankingLoss,
)
from nemo_distill.losses.closed_forms import SmoothedLabels
from nemo_distill.losses.reduction import masked_mean

WORD_LEVEL = {
    "kl": KLDivergenceLoss(),
    "reverse_kl": ReverseKLDivergenceLoss(),
    "jensen_shannon": JensenShannonLoss(beta=0.3),
    "cross_entropy": CrossEntropyLoss(),
}
HIDDEN_STATES = {"cosine": CosineEmbeddingLoss(), "mse": MeanSquaredErrorLoss()}
LOSSES = WORD_LEVEL | HIDDEN_STATES | {"top_one_ranking": TopOneRankingLoss()}


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
    assert KLDivergenceLoss()(student, teacher).item() == pytest.approx(expected)
    assert KLDivergenceLoss()(student, teacher, temperature=3.0).item() == pytest.approx(9 * expected)
    unscaled = KLDivergenceLoss(scale_by_temperature_squared=False)
    assert unscaled(student, teacher, temperature=3.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_position_of_weight_two_counts_as_two(name, tensors):
    student, teacher, _ = tensors
    weights = torch.tensor([[2, 1, 0, 3, 1], [0, 0, 0, 0, 0], [1, 2, 2, 0, 0]])
    times = weights.flatten()
    repeated = [states.flatten(0, 1).repeat_interleave(times, 0).unsqueeze(0) for states in (student, teacher)]
    expected = call(LOSSES[name], *repeated)
    assert call(LOSSES[name], student, teacher, weights.float()).item() == pytest.approx(expected.item())
    assert call(LOSSES[name], student, teacher, weights / 100).item() == pytest.approx(expected.item())


def test_smoothing_gives_every_other_word_the_same_small_share():
    log_probs = torch.tensor([[0.7, 0.2, 0.1]]).log()
    expected = -(0.9 * log_probs[0, 1] + 0.05 * (log_probs[0, 0] + log_probs[0, 2]))
    assert SmoothedLabels(torch.tensor([1]), 0.1).per_token(log_probs).item() == pytest.approx(expected.item())


def test_values_of_weight_zero_need_not_be_finite():
    values = torch.tensor([1.0, 2.0, math.nan], requires_grad=True)
    mean = masked_mean(values, torch.tensor([0.1, 0.3, 0.0]))
    mean.backward()
    assert mean.item() == pytest.approx(7 / 4) and values.grad.tolist() == pytest.approx([0.25, 0.75, 0])
    assert masked_mean(values, torch.zeros(3)).item() == 0


def naive(name, p, q, beta=0.3):
    """The divergence of two distributions, given as lists, by its formula; p is the student's."""

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in zip(a, b))

    if name == "kl":
        return kl(q, p)
    if name == "reverse_kl":
        return kl(p, q)
    if name == "cross_entropy":
        return -sum(y * math.log(x) for x, y in zip(p, q))
    mixture = [beta * y + (1 - beta) * x for x, y in zip(p, q)]
    return beta * kl(q, mixture) + (1 - beta) * kl(p, mixture)


@pytest.mark.parametrize("name", ["kl", "jensen_shannon", "cross_entropy"])
def test_a_word_that_the_teacher_gives_no_probability_adds_no_nan(name, tensors):
    student, teacher, mask = tensors
    teacher = teacher.detach().clone()
    teacher[:, :, 2] = -math.inf
    expected = call(WORD_LEVEL[name], student.double(), teacher.masked_fill(teacher == -math.inf, -1e3).double(), mask)
    found = call(WORD_LEVEL[name], student, teacher, mask)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = [torch.autograd.grad(value, student)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", WORD_LEVEL)
def test_word_level_losses_agree_with_a_sum_written_out(name, tensors):
    """The mean over real tokens, and not over sentences or all positions."""
    student, teacher, mask = tensors
    values = [
        naive(name, student[i, j].softmax(-1).tolist(), teacher[i, j].softmax(-1).tolist()) for i, j in mask.nonzero()
    ]
    found = call(WORD_LEVEL[name], student, teacher, mask).item()
    assert found == pytest.approx(sum(values) / len(values), rel=1e-4)


def test_mse_agrees_with_torchs_over_real_tokens(tensors):
    student, teacher, mask = tensors
    expected = F.mse_loss(student[mask], teacher[mask])
    assert call(MeanSquaredErrorLoss(), student, teacher, mask).item() == pytest.approx(expected.item(), rel=1e-5)


def test_jensen_shannon_tends_to_both_kls(tensors):
    student, teacher, mask = tensors
    forward, reverse = (
        call(loss(), student, teacher, mask).item() for loss in (KLDivergenceLoss, ReverseKLDivergenceLoss)
    )
    assert call(JensenShannonLoss(beta=0.0), student, teacher, mask).item() == pytest.approx(forward)
    assert call(JensenShannonLoss(beta=1.0), student, teacher, mask).item() == pytest.approx(reverse)
    small = 1e-3
    near_forward = call(JensenShannonLoss(beta=small), student.double(), teacher.double(), mask).item() / small
    near_reverse = call(JensenShannonLoss(beta=1 - small), student.double(), teacher.double(), mask).item() / small
    assert near_forward == pytest.approx(forward, rel=0.02)
    assert near_reverse == pytest.approx(reverse, rel=0.02)


def test_jensen_shannon_refuses_a_beta_outside_0_to_1():
    with pytest.raises(ValueError, match="beta=1.5: must be at least 0 and at most 1"):
        JensenShannonLoss(beta=1.5)


@pytest.mark.parametrize(("student", "expected"), [([2.0, 0.0], 0.0), ([0.0, 3.0], 1.0), ([-1.0, 0.0], 2.0)])
def test_cosine_of_same_right_and_opposite_directions(student, expected):
    loss = CosineEmbeddingLoss()(torch.tensor([[student]]), torch.tensor([[[5.0, 0.0]]]))
    assert loss.item() == pytest.approx(expected)


def test_cosine_agrees_with_torchs_loss(tensors):
    student, teacher, mask = tensors
    expected = F.cosine_embedding_loss(student[mask], teacher[mask], torch.ones(int(mask.sum())))
    assert call(CosineEmbeddingLoss(), student, teacher, mask).item() == pytest.approx(expected.item(), rel=1e-5)


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
        KLDivergenceLoss()(*log_probs, temperature=temperature).backward()
        errors.append((student.grad - limit).abs().max().item())
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", WORD_LEVEL)
def test_extreme_logits_of_a_large_vocabulary_stay_within_tolerance_of_float64(name, dtype):
    """V = 64,000, logits up to 1e4 in half precision: finite value and gradients, near those of a float64 oracle."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(1, 3, 64_000, generator=generator).mul(5).to(dtype) for _ in range(2))
    student[0, 0, 0], student[0, 1, 1], teacher[0, 0, 2], teacher[0, 2, 3] = 1e4, -1e4, 1e4, -1e4
    half, double = student.clone().requires_grad_(), student.double().requires_grad_()

    def loss_of(logits, other, in_dtype):
        log_probs = [tensor.to(in_dtype).div(2).log_softmax(-1) for tensor in (logits, other)]
        return WORD_LEVEL[name].per_token(*log_probs).mean()

    found, expected = loss_of(half, teacher, torch.float32), loss_of(double, teacher.double(), torch.float64)
    found.backward(), expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
    assert half.grad.isfinite().all()
    assert torch.allclose(
        half.grad.double(), double.grad, atol=torch.finfo(dtype).eps * double.grad.abs().max().item()
    )
