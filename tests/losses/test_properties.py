"""What holds of every loss, whatever the shapes, numbers, masks, weights and temperatures."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from nemo_distill.losses import (
    AttentionMapsLoss,
    CosineEmbeddingLoss,
    CrossEntropyLoss,
    JensenShannonLoss,
    KLDivergenceLoss,
    MeanSquaredErrorLoss,
    ReverseKLDivergenceLoss,
    SelectiveDistillationLoss,
    TopOneRankingLoss,
)
from nemo_distill.losses import fused as fused_module
from nemo_distill.losses.closed_forms import SmoothedLabels, differentiate
from nemo_distill.losses.fused import fused_losses
from nemo_distill.losses.layer_map import LAYER_MAPS, layer_pairs
from nemo_distill.losses.projection import Projection
from nemo_distill.losses.top_k import TAILS, top_k_of
from tests.json_values import VALUES
from tests.losses.test_fused import assert_close, gradients, plain_losses

FEWEST_WORDS = 3  # that the ranking loss needs
DIVERGENCES = {
    "kl": lambda **options: KLDivergenceLoss(**options),
    "reverse_kl": lambda **options: ReverseKLDivergenceLoss(**options),
    "jensen_shannon_0": lambda **options: JensenShannonLoss(beta=0.0, **options),
    "jensen_shannon": lambda **options: JensenShannonLoss(beta=0.3, **options),
    "jensen_shannon_1": lambda **options: JensenShannonLoss(beta=1.0, **options),
}
WORD_LEVEL = DIVERGENCES | {
    "cross_entropy": lambda **options: CrossEntropyLoss(**options),
    "top_one_ranking": lambda **options: TopOneRankingLoss(k=3, **options),
}
EVERY_LOSS = WORD_LEVEL | {
    "selective": lambda: SelectiveDistillationLoss(queue_size=0),
    "cosine": lambda: CosineEmbeddingLoss(),
    "mse": lambda: MeanSquaredErrorLoss(),
    "attention_maps": lambda: AttentionMapsLoss(),
}
by_name = pytest.mark.parametrize("name", WORD_LEVEL)
temperatures = st.floats(0.3, 10.0)


@st.composite
def batches(draw):
    """Logits of student and teacher (B, T, V), float64, and which of the tokens are real, (B, T)."""
    shape = [draw(st.integers(1, most)) for most in (3, 5)] + [draw(st.integers(FEWEST_WORDS, 12))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    logits = [
        draw(st.floats(0.01, 8)) * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2)
    ]
    mask = torch.rand(shape[:2], generator=generator) < draw(st.sampled_from((0.0, 0.3, 0.8, 1.0)))
    return *logits, mask


def value_of(loss, student, teacher, mask):
    """The loss of tokens (B, T, V), whatever it reads of them."""
    argument = next(iter(loss.consumes))
    if argument == "log_probs":
        student, teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    more = {"student_nll": -student[..., 0]} if "nll" in loss.consumes else {}
    if argument == "attention_maps":  # a query is a token, looking at V keys with one head in one layer
        student, teacher = ([tensor.softmax(-1).unsqueeze(1)] for tensor in (student, teacher))
    return loss(**{f"student_{argument}": student, f"teacher_{argument}": teacher}, mask=mask, **more).item()


@pytest.mark.parametrize("name", EVERY_LOSS)
@given(batch=batches(), padding=st.integers(0, 3), seed=st.integers(0, 2**32))
def test_neither_padding_nor_the_order_of_tokens_matters(name, batch, padding, seed):
    loss, (student, teacher, mask) = EVERY_LOSS[name](), batch
    order = torch.randperm(mask.numel(), generator=torch.Generator().manual_seed(seed))
    moved = [tensor.flatten(0, 1)[order][None] for tensor in (student, teacher)]  # one sentence of all tokens
    padded = [F.pad(tensor, (0, 0, padding, padding), value=30.0) for tensor in moved]
    found = value_of(loss, *padded, F.pad(mask.flatten()[order][None], (padding, padding)))
    assert found == pytest.approx(value_of(loss, student, teacher, mask), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
@given(batch=batches(), temperature=temperatures)
def test_a_divergence_is_never_negative_and_zero_where_models_agree(name, batch, temperature):
    student, teacher, mask = batch
    loss = DIVERGENCES[name]()
    log_probs = [(logits / temperature).log_softmax(-1) for logits in (student, teacher)]
    rounding = 1e-5 * loss.scale(temperature)
    assert loss(*log_probs, mask, temperature).item() >= -rounding
    assert loss(log_probs[1], log_probs[1], mask, temperature).item() == pytest.approx(0.0, abs=rounding)


@by_name
@given(batch=batches(), temperature=temperatures)
def test_the_factor_is_the_temperature_squared(name, batch, temperature):
    *logits, mask = batch
    log_probs = [(tensor / temperature).log_softmax(-1) for tensor in logits]
    plain = WORD_LEVEL[name](scale_by_temperature_squared=False)(*log_probs, mask, temperature).item()
    assert WORD_LEVEL[name]()(*log_probs, mask, temperature).item() == pytest.approx(temperature**2 * plain)


def written_out(name, student, teacher):
    """Each token's loss, from logits, by its formula in probabilities; p is the student's."""
    p, q = student.softmax(-1), teacher.softmax(-1)

    def kl(a, b):
        return (a * (a / b).log()).sum(-1)

    if name == "cross_entropy":
        return -(q * p.log()).sum(-1)
    if name in ("kl", "jensen_shannon_0"):
        return kl(q, p)
    if name in ("reverse_kl", "jensen_shannon_1"):
        return kl(p, q)
    if name == "top_one_ranking":
        return ranking_written_out(p.flatten(0, 1), q.flatten(0, 1)).view(p.shape[:-1])
    mixture = 0.3 * q + 0.7 * p
    return 0.3 * kl(q, mixture) + 0.7 * kl(p, mixture)


def ranking_written_out(p, q, k=3):
    values = []
    for ours, theirs in zip(p, q):
        of_teacher, of_student = theirs.topk(k).indices.tolist(), ours.topk(k).indices.tolist()
        value = sum(torch.relu(ours[word] - ours[of_teacher[0]]) for word in of_teacher)
        for better in of_teacher:
            worse = [word for word in of_student if theirs[word] < theirs[better]]
            value = value + sum(torch.relu(ours[word] - ours[better]) for word in worse)
        values.append(value)
    return torch.stack(values)


@by_name
@given(batch=batches())
def test_values_and_gradients_are_those_of_the_formula_written_out(name, batch):
    student, teacher, _ = batch
    student.requires_grad_()
    expected = written_out(name, student, teacher)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), student)
    loss, log_probs = WORD_LEVEL[name](), [tensor.log_softmax(-1) for tensor in (student, teacher)]
    assert_close([loss.per_token(*log_probs)], [expected], 1e-9)
    (by_autograd,) = torch.autograd.grad(loss.per_token(*log_probs).sum(), student)
    assert_close([by_autograd], [expected_gradient], 1e-9)
    values, gradient = differentiate(loss, *(tensor.detach() for tensor in log_probs))
    assert_close([values, gradient], [expected, expected_gradient], 1e-9)


@st.composite
def objectives(draw):
    """A student's and a teacher's projection, a mask, losses with weights, labels and a temperature."""
    batch, time, words = (draw(st.integers(*range_)) for range_ in ((1, 3), (1, 6), (FEWEST_WORDS, 11)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def projection(trained):
        width = draw(st.integers(1, 5))
        shapes = [(batch, time, width), (words, width), (words,)][: 3 if draw(st.booleans()) else 2]
        tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        return Projection(*(tensor.requires_grad_(trained) for tensor in tensors))

    student, teacher = projection(trained=True), projection(trained=False)
    losses = [WORD_LEVEL[name]() for name in draw(st.lists(st.sampled_from(sorted(WORD_LEVEL)), max_size=3))]
    labels = None
    if not losses or draw(st.booleans()):
        ids = torch.randint(words, (batch, time), generator=generator)
        labels = SmoothedLabels(ids, draw(st.sampled_from((0.0, 0.1))))
    count = len(losses) + (labels is not None)
    weights = draw(st.lists(st.floats(0.01, 10), min_size=count, max_size=count))
    mask = torch.rand((batch, time), generator=generator) < draw(st.sampled_from((0.0, 0.5, 1.0)))
    return student, teacher, mask, losses, weights, draw(temperatures), labels


def assert_fused_is_plain(student, teacher, mask, losses, weights, temperature, labels, chunks):
    """By value and by all gradients, in chunks of a few tokens."""
    expected = plain_losses(student, teacher, mask, losses, temperature, labels)
    words = len(student.weight)
    with (
        mock.patch.dict(fused_module.CHUNK_ELEMENTS, cpu=chunks[0] * words),
        mock.patch.dict(fused_module.BLOCK_ELEMENTS, cpu=chunks[1] * words),
    ):
        found = fused_losses(student, teacher, mask, losses, weights, temperature, labels)
        assert_close(found, expected, 1e-9)
        weighted = [(torch.tensor(weights, dtype=torch.float64) * values).sum() for values in (found, expected)]
        assert_close(*(gradients(value, student) for value in weighted), 1e-9)


chunk_sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))


@given(objective=objectives(), chunks=chunk_sizes)
def test_fused_losses_are_the_plain_ones(objective, chunks):
    assert_fused_is_plain(*objective, chunks)


@given(objective=objectives(), chunks=chunk_sizes, k=st.integers(1, 11), tail=st.sampled_from(TAILS))
def test_fused_losses_of_a_few_of_the_teachers_words_are_the_plain_ones(objective, chunks, k, tail):
    student, teacher, mask, losses, *rest = objective
    words = len(teacher.weight)
    kept = top_k_of(teacher.tempered_log_probs(), min(k, words), tail)
    losses = [loss for loss in losses if k >= FEWEST_WORDS or not isinstance(loss, TopOneRankingLoss)]
    usable = [tail == "uniform" or k >= words or not loss.needs_every_word for loss in losses]
    losses = [loss for loss, use in zip(losses, usable) if use] or [KLDivergenceLoss()]
    _, temperature, labels = rest
    weights = [1.0] * (len(losses) + (labels is not None))
    kept = type(kept)(kept.ids, kept.log_probs.double(), kept.rest.double(), kept.vocab_size, kept.tail)
    assert_fused_is_plain(student, kept, mask, losses, weights, temperature, labels, chunks)


@given(st.sampled_from(LAYER_MAPS), st.integers(1, 30), st.integers(0, 30))
def test_a_rule_pairs_layers_in_order_each_with_one_of_its_own(rule, num_student, more):
    num_teacher = num_student + more
    if rule != "uniform" and num_student == 1:
        with pytest.raises(ValueError, match=f"layers={rule}: "):
            layer_pairs(rule, num_student, num_teacher)
        return
    pairs = layer_pairs(rule, num_student, num_teacher)
    ours, theirs = zip(*pairs)
    assert list(ours) == list(range(1, num_student + (rule == "uniform")))
    assert sorted(set(theirs)) == list(theirs) and theirs[0] >= 1 and theirs[-1] <= num_teacher
    assert (theirs[-1] == num_teacher) == (rule == "uniform")


@given(VALUES, st.integers(1, 4), st.integers(1, 6))
def test_any_layer_map_is_pairs_of_layers_that_exist_or_a_sentence(layers, num_student, num_teacher):
    try:
        pairs = layer_pairs(layers, num_student, num_teacher)
    except ValueError:
        return
    assert pairs and all(0 <= ours <= num_student and 0 <= theirs <= num_teacher for ours, theirs in pairs)
