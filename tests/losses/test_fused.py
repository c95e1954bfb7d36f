"""The fused losses are the plain ones, to the last digits of float64, and never hold the whole of the logits."""

import pytest
import torch
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nemo_distill.losses import (
    CrossEntropyLoss,
    JensenShannonLoss,
    KLDivergenceLoss,
    ReverseKLDivergenceLoss,
    SelectiveDistillationLoss,
    TopOneRankingLoss,
)
from nemo_distill.losses import fused as module
from nemo_distill.losses import projection as projections
from nemo_distill.losses.closed_forms import SmoothedLabels, by_autograd, differentiate
from nemo_distill.losses.fused import fused_losses
from nemo_distill.losses.projection import Projection
from nemo_distill.losses.reduction import masked_mean
from nemo_distill.losses.top_k import TopK, top_k_of

BATCH, TIME, WIDTH, TEACHER_WIDTH, WORDS = 3, 7, 5, 8, 13
LOSSES = {
    "kl": KLDivergenceLoss(),
    "cross_entropy": CrossEntropyLoss(),
    "reverse_kl": ReverseKLDivergenceLoss(),
    "jensen_shannon": JensenShannonLoss(beta=0.3),
    "top_one_ranking": TopOneRankingLoss(k=3),
    "unscaled": KLDivergenceLoss(scale_by_temperature_squared=False),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Five tokens at a time, and of them two, which divide no number of tokens here."""
    monkeypatch.setitem(module.CHUNK_ELEMENTS, "cpu", 5 * WORDS)
    monkeypatch.setitem(module.BLOCK_ELEMENTS, "cpu", 2 * WORDS)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def projection(generator, width, dtype=torch.float64, bias=True, trained=True):
    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(trained)

    return Projection(random(BATCH, TIME, width), random(WORDS, width), random(WORDS) if bias else None)


@pytest.fixture
def student(generator):
    return projection(generator, WIDTH)


@pytest.fixture
def teacher(generator):
    return projection(generator, TEACHER_WIDTH, trained=False)


@pytest.fixture
def mask():
    return torch.arange(TIME) < torch.tensor([[7], [4], [2]])


@pytest.fixture
def labels(generator):
    return SmoothedLabels(torch.randint(WORDS, (BATCH, TIME), generator=generator), 0.1)


def plain_losses(student, teacher, mask, losses, temperature=1.0, labels=None):
    """The same by autograd, from the whole of the logits."""
    values = []
    if losses:
        log_probs = [model.tempered_log_probs(temperature) for model in (student, teacher)]
        values += [loss.scale(temperature) * masked_mean(loss.per_token(*log_probs), mask) for loss in losses]
    if labels:
        values.append(masked_mean(labels.per_token(student.tempered_log_probs()), mask))
    return torch.stack(values)


def inputs_of(projection):
    return [tensor for tensor in (projection.hidden_states, projection.weight, projection.bias) if tensor is not None]


def gradients(value, projection):
    return torch.autograd.grad(value, inputs_of(projection))


def assert_close(found, expected, tolerance=1e-12):
    assert len(found) == len(expected)
    assert all(torch.allclose(*pair, rtol=tolerance, atol=tolerance) for pair in zip(found, expected))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_word_that_the_teachers_bias_forbids_adds_no_nan(dtype, student, generator, mask):
    names = ("kl", "cross_entropy", "jensen_shannon")
    teacher = projection(generator, TEACHER_WIDTH, dtype, trained=False)
    teacher.bias[3] = -torch.inf
    q = torch.softmax(linear(teacher.hidden_states, teacher.weight, teacher.bias).double() / 2, dim=-1)
    log_q = torch.where(q > 0, q.log(), -1e3)
    log_p = student.tempered_log_probs(2.0)
    expected = torch.stack([4 * masked_mean(LOSSES[name].per_token(log_p, log_q), mask) for name in names])
    found = fused_losses(student, teacher, mask, [LOSSES[name] for name in names], [1.0] * 3, 2.0)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    assert_close(found, expected, tolerance)
    assert_close(gradients(found.sum(), student), gradients(expected.sum(), student), tolerance)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_weighted_tokens_give_the_weighted_mean(temperature, cached, student, teacher, mask, labels, generator):
    weights = mask * torch.tensor([[0.3], [0.0], [2.5]], dtype=torch.float64)
    losses = list(LOSSES.values())
    if cached:
        whole, teacher = teacher, top_k_of(teacher.tempered_log_probs().detach(), WORDS)
    else:
        whole = teacher
    log_probs = [model.tempered_log_probs(temperature) for model in (student, whole)]
    naive = [loss.scale(temperature) * (loss.per_token(*log_probs) * weights).sum() / weights.sum() for loss in losses]
    naive.append((labels.per_token(student.tempered_log_probs()) * weights).sum() / weights.sum())
    factors = torch.rand(len(naive), generator=generator)
    found = fused_losses(student, teacher, weights, losses, [*factors[:-1].tolist(), 1.0], temperature, labels)
    assert_close(found, torch.stack(naive), 1e-5 if cached else 1e-12)  # caches hold float32
    assert_close(found, plain_losses(student, whole, weights, losses, temperature, labels), 1e-5 if cached else 1e-12)
    expected = gradients(sum(naive), student)
    assert_close(gradients(found.sum(), student), expected, 1e-5 if cached else 1e-12)
    ones = [1.0] * len(naive)
    found = fused_losses(student, teacher, weights, losses, ones, temperature, labels)  # of which the backward is free
    assert_close(gradients(found.sum(), student), expected, 1e-5 if cached else 1e-12)
    nothing = fused_losses(student, teacher, weights * 0, losses, ones, temperature, labels)
    assert not nothing.any() and not gradients(nothing.sum(), student)[0].any()


def test_without_a_mask_every_position_counts(student, teacher):
    losses = [LOSSES["kl"]]
    expected = plain_losses(student, teacher, None, losses)
    found = fused_losses(student, teacher, None, losses, [1.0])
    assert_close(found, expected)
    assert_close(gradients(found, student), gradients(expected, student))


@pytest.mark.parametrize("sum_of", [lambda v: v[0], lambda v: v[1], lambda v: v.sum(), lambda v: v[0] - 3 * v[1]])
def test_another_sum_than_announced_has_its_own_gradients(sum_of, student, teacher, mask, labels):
    losses = [LOSSES["kl"]]
    expected = plain_losses(student, teacher, mask, losses, 2.0, labels)
    found = fused_losses(student, teacher, mask, losses, [0.5, 2.0], 2.0, labels)
    assert_close(gradients(sum_of(found), student), gradients(sum_of(expected), student))


def test_the_announced_sum_is_not_computed_twice(student, teacher, mask, labels, monkeypatch):
    found = fused_losses(student, teacher, mask, [LOSSES["kl"]], [0.1, 0.7], labels=labels)
    monkeypatch.setattr(module._Objective, "evaluate", None)
    gradients(3.3 * (0.1 * found[0] + 0.7 * found[1]), student)


def test_a_weight_tied_to_the_embedding_gets_both_gradients(student, teacher, mask, labels):
    def losses_of(function):
        embedded = Projection(student.weight[labels.ids], student.weight, student.bias)
        return function(embedded, teacher, mask, [LOSSES["kl"]])

    expected = losses_of(plain_losses)
    found = losses_of(lambda *arguments: fused_losses(*arguments, [1.0]))
    assert_close(torch.autograd.grad(found, student.weight), torch.autograd.grad(expected, student.weight))


@pytest.mark.parametrize("frozen", ["hidden_states", "weight", "bias"])
def test_what_is_frozen_gets_no_gradient(frozen, student, teacher, mask):
    getattr(student, frozen).requires_grad_(False)
    for function in (plain_losses, lambda *arguments: fused_losses(*arguments, [1.0])):
        function(student, teacher, mask, [LOSSES["kl"]]).backward()
    assert getattr(student, frozen).grad is None
    others = [tensor for tensor in inputs_of(student) if tensor.requires_grad]
    reference = plain_losses(student, teacher, mask, [LOSSES["kl"]])
    assert_close([tensor.grad / 2 for tensor in others], torch.autograd.grad(reference, others))


def test_gradients_accumulate_over_batches_and_repeated_backward_passes(student, teacher, mask):
    losses = [LOSSES["jensen_shannon"]]
    first = fused_losses(student, teacher, mask, losses, [1.0])
    second = fused_losses(student, teacher, ~mask, losses, [1.0])
    (2 * first).backward(retain_graph=True)
    first.backward()
    second.backward()
    total = 3 * plain_losses(student, teacher, mask, losses) + plain_losses(student, teacher, ~mask, losses)
    assert_close([tensor.grad for tensor in inputs_of(student)], gradients(total, student))


def test_what_stands_at_padding_does_not_matter(student, teacher, mask):
    expected = fused_losses(student, teacher, mask, [LOSSES["kl"]], [1.0])
    for model in (student, teacher):
        model.hidden_states.data[~mask] = torch.nan
    found = fused_losses(student, teacher, mask, [LOSSES["kl"]], [1.0])
    assert torch.equal(found, expected)
    states_gradient, weight_gradient, _ = gradients(found, student)
    assert not states_gradient[~mask].any() and weight_gradient.isfinite().all()


def test_a_second_derivative_is_refused(student, teacher, mask):
    value = fused_losses(student, teacher, mask, [LOSSES["kl"]], [1.0])
    with pytest.raises(RuntimeError, match="create_graph=True.*distillation.fused=false"):
        torch.autograd.grad(value, student.weight, create_graph=True)


def test_without_gradients_there_are_the_same_values(student, teacher, mask):
    expected = fused_losses(student, teacher, mask, [LOSSES["kl"]], [1.0])
    with torch.no_grad():
        found = fused_losses(student, teacher, mask, [LOSSES["kl"]], [1.0])
    assert torch.equal(found, expected) and not found.requires_grad


class Largest(TorchDispatchMode):
    """How many elements the largest tensor has that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@pytest.mark.parametrize("name", LOSSES)
def test_no_tensor_holds_the_logits_of_more_tokens_than_a_chunk(name, student, teacher, mask, labels):
    with Largest() as largest:
        value = fused_losses(student, teacher, mask, [LOSSES[name]], [1.0, 1.0], 2.0, labels)
        value.sum().backward()
    assert 0 < largest.elements <= max(BATCH * TIME * TEACHER_WIDTH, WORDS * TEACHER_WIDTH) < mask.sum() * WORDS


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_costs_no_more_precision_than_in_the_plain_form(name, generator, mask, labels):
    student = projection(generator, WIDTH, torch.float32)
    teacher = projection(generator, TEACHER_WIDTH, torch.float32, trained=False)
    arguments = (student, teacher, mask, [LOSSES[name]])
    exact = gradients(plain_losses(*arguments, 2.0, labels).sum(), student)
    with torch.autocast("cpu", torch.bfloat16):
        plain = plain_losses(*arguments, 2.0, labels)
        fused = fused_losses(*arguments, [1.0, 1.0], 2.0, labels)
    assert fused.dtype == torch.float32
    for value in (fused.sum(), fused[0] + 2 * fused[1]):  # announced, and not
        assert all(gradient.dtype == torch.float32 for gradient in gradients_of(value, student))
    errors = [
        sum(
            (found - expected).norm() / expected.norm() for found, expected in zip(gradients_of(value, student), exact)
        )
        for value in (fused.sum(), plain.sum())
    ]
    assert 0 < errors[0] < max(1.5 * errors[1], 0.03)


def of_whole_numbers(generator, width, dtype):
    """A projection in `dtype` whose logits have no rounding errors in float16 and bfloat16: they are small integers."""
    shapes = ((BATCH, TIME, width), (WORDS, width), (WORDS,))
    numbers = [torch.randint(-2, 3, shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    return Projection(*numbers)


def in_half_and_double(width):
    """The same twice: for a pass under autocast, and for an oracle."""
    return [of_whole_numbers(torch.Generator().manual_seed(width), width, t) for t in (torch.float32, torch.float64)]


def sizes_of_tokens(gradient, mask):
    return torch.linalg.vector_norm(gradient.double(), dim=-1)[mask]


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("temperature", [0.5, 10.0])
@pytest.mark.parametrize("weight", [1e-8, 1.0, 1e6])
def test_gradients_in_half_precision_are_as_exact_with_any_weight(weight, temperature, precision, mask):
    (student, exact_student), (teacher, exact_teacher) = (
        in_half_and_double(width) for width in (WIDTH, TEACHER_WIDTH)
    )
    losses = [LOSSES["kl"]]
    with torch.autocast("cpu", precision):
        value = fused_losses(student, teacher, mask, losses, [weight], temperature)[0]
    scaled = 64 / weight * (weight * value)  # as a loss scale would multiply it
    found = gradients(scaled, student)
    expected = gradients(64 * plain_losses(exact_student, exact_teacher, mask, losses, temperature)[0], exact_student)
    tolerance = torch.finfo(precision).eps
    for gradient, exact in zip(found, expected):
        assert (gradient - exact).norm() < tolerance * exact.norm()
    of_tokens = [sizes_of_tokens(gradient, mask) for gradient in (found[0] - expected[0], expected[0])]
    assert (of_tokens[0] < 2 * tolerance * of_tokens[1]).all()


def gradients_of(value, student):
    return torch.autograd.grad(value, inputs_of(student), retain_graph=True)


def test_a_model_in_bf16_gets_gradients_in_bf16_that_were_summed_in_float32(generator, mask):
    student = projection(generator, WIDTH, torch.bfloat16)
    teacher = projection(generator, TEACHER_WIDTH, torch.bfloat16, trained=False)
    found = fused_losses(student, teacher, mask, [LOSSES["kl"]], [1.0])
    doubles = [Projection(*(t.detach().double() for t in inputs_of(model))) for model in (student, teacher)]
    for tensor in inputs_of(doubles[0]):
        tensor.requires_grad_()
    expected = plain_losses(*doubles, mask, [LOSSES["kl"]])
    assert found.dtype == torch.float32 and found.item() == pytest.approx(expected.item(), rel=0.02)
    for gradient, exact in zip(gradients(found, student), gradients(expected, doubles[0])):
        assert gradient.dtype == torch.bfloat16
        assert (gradient.double() - exact).norm() < 0.02 * exact.norm()


def test_a_compiled_function_around_it_gives_the_same(student, teacher, mask, fresh_compiler):
    def objective(states, weight, bias):
        return fused_losses(Projection(2 * states, weight, bias), teacher, mask, [LOSSES["kl"]], [1.0]).sum() * 3

    compiled = torch.compile(objective, backend="eager")
    found, expected = (gradients(function(*inputs_of(student)), student) for function in (compiled, objective))
    assert_close(found, expected)


def test_kl_makes_no_whole_distribution_of_a_teacher_of_few_words(student, teacher, mask, monkeypatch):
    cut = top_k_of(teacher.tempered_log_probs(), 4)
    monkeypatch.setattr(TopK, "tempered_log_probs", None)
    fused_losses(student, cut, mask, [LOSSES["kl"], LOSSES["cross_entropy"]], [1.0, 1.0])


class Squared(KLDivergenceLoss):
    def per_token(self, student_log_probs, teacher_log_probs):
        return super().per_token(student_log_probs, teacher_log_probs).square()


def test_a_subclass_has_its_own_gradient(student, teacher):
    log_probs = [model.tempered_log_probs().detach().flatten(0, 1) for model in (student, teacher)]
    found, expected = differentiate(Squared(), *log_probs), by_autograd(Squared(), *log_probs)
    assert all(torch.equal(*pair) for pair in zip(found, expected))
    assert not torch.allclose(found[1], differentiate(KLDivergenceLoss(), *log_probs)[1])


class Learned(KLDivergenceLoss):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def per_token(self, student_log_probs, teacher_log_probs):
        return self.factor * super().per_token(student_log_probs, teacher_log_probs)


class Doubled(KLDivergenceLoss):
    def forward(self, *args, **kwargs):
        return 2 * super().forward(*args, **kwargs)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (KLDivergenceLoss(), True),
        (TopOneRankingLoss(), True),
        (SelectiveDistillationLoss(), False),
        (Doubled(), False),
        (KLDivergenceLoss(log_probs="other"), False),
        (Learned(), False),
    ],
)
def test_a_loss_that_does_more_than_average_is_not_fused(loss, expected):
    assert loss.consumes_projection is expected


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_losses_on_distributions_are_means_over_the_tokens_that_the_teacher_knows(
    student, teacher, mask, labels, temperature
):
    pairs = torch.rand(mask.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    losses, weights = [*LOSSES.values()], [1.0, 0.5, 0.25, 2.0, 1.0, 1.0, 0.7]
    values = fused_losses(student, teacher, mask, losses, weights, temperature, labels, pairs)
    *paired, _ = plain_losses(student, teacher, mask & pairs, losses, temperature, labels)
    *_, own = plain_losses(student, teacher, mask, losses, temperature, labels)
    assert_close(values, torch.stack([*paired, own]))
    found = gradients((values * values.new_tensor(weights)).sum(), student)
    expected = gradients_of((torch.stack([*paired, own]) * values.new_tensor(weights)).sum(), student)
    for one, other in zip(found, expected):
        assert_close(one, other)
    shares = mask * torch.tensor([[0.3], [1.0], [2.5]], dtype=torch.float64)
    weighted = fused_losses(student, teacher, shares, losses, weights, temperature, labels, pairs)
    assert_close(weighted[:-1], plain_losses(student, teacher, shares * pairs, losses, temperature))
    assert_close(weighted[-1:], plain_losses(student, teacher, shares, losses, temperature, labels)[-1:])
    nowhere = fused_losses(student, teacher, mask, losses, weights, temperature, labels, torch.zeros_like(mask))
    assert_close(nowhere, torch.stack([*[torch.zeros_like(own)] * len(losses), own]))


@pytest.mark.parametrize("bias", [True, False])
def test_the_most_probable_of_the_first_words_are_found_a_few_tokens_at_a_time(generator, bias, monkeypatch):
    monkeypatch.setattr(projections, "LOGITS_AT_ONCE", 2 * 9)
    student = projection(generator, WIDTH, bias=bias)
    found, seen = student.most_probable(9), []
    monkeypatch.setattr(
        projections.F, "linear", lambda states, *args: seen.append(len(states)) or linear(states, *args)
    )
    assert torch.equal(student.most_probable(9), found) and max(seen) == 2
    assert torch.equal(found, student.project().values[..., :9].argmax(dim=-1)) and found.shape == (BATCH, TIME)
    assert not torch.equal(found, student.most_probable(WORDS))
