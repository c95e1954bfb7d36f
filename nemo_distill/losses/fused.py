"""The word-level losses of a step in one pass over the vocabulary that holds the logits of a few tokens at a time.

The usual way keeps several tensors of (N, V) numbers, half a gigabyte each for 4,096 tokens of 32,000 words. Here the
logits of a chunk of tokens are made, turned into losses and gradients, and forgotten. To have the gradients before
anyone asks for them takes the weights with which the losses will be summed, and spares a second projection in the
backward pass.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from nemo_distill.losses.closed_forms import TOP_K_FORMS, Differentiated, differentiate
from nemo_distill.losses.labels import SmoothedLabels
from nemo_distill.losses.projection import Logits, Projection
from nemo_distill.losses.top_k import TopK
from nemo_distill.losses.word_level import WordLevelLoss

CHUNK_ELEMENTS = {"cpu": 16_384_000, "cuda": 20_000_000}  # of the logits that exist at a time
BLOCK_ELEMENTS = {"cpu": 256_000, "cuda": 20_000_000}  # of them, how many are worked on at a time: a cache's worth
# In float16, numbers below 6e-8 are 0 and those above 65,504 infinite. For the matrix products, the gradient of each
# token is brought to a sum of absolute values in between, and the tokens' shares of the whole to another sum.
HALF_GRADIENT, HALF_SHARES = 32.0, 16.0
Tokens = tuple[Tensor, ...]  # a few positions, as their indices in each of the dimensions (B, T)
Gradients = list[Tensor | None]  # with respect to the student's hidden states, weight and bias


class Teacher(Protocol):
    """What gives the teacher's distributions of a few tokens at a time: a `Projection`, a `TopK`, or the like."""

    def select(self, tokens: Tokens | slice) -> "Teacher":
        """Returns that of some tokens."""

    def to(self, dtype: torch.dtype) -> "Teacher":
        """Returns it with matrices of another precision."""

    def reserve(self, tokens: int) -> "Teacher":
        """Returns it with memory for the logits of so many tokens, in which `project` works from then on."""

    def project(self) -> "Teacher":
        """Returns it with all products of matrices done; what it returned before may be overwritten."""

    def tempered_log_probs(self, temperature: float) -> Tensor:
        """Returns the log-probabilities (N, V) at a temperature, perhaps in place of the logits: to be called once."""


@torch.compiler.disable
def fused_losses(
    student: Projection,
    teacher: Teacher | None,
    mask: Tensor | None,
    losses: Sequence[WordLevelLoss],
    weights: Sequence[float],
    temperature: float = 1.0,
    labels: SmoothedLabels | None = None,
) -> Tensor:
    """Returns each loss's mean over real tokens, as `losses` and the log-likelihood of `labels` have them.

    The gradients for the student's hidden states, weight and bias are those of the plain losses, for any sum of the
    returned values; where the sum's weights are `weights`, up to a common factor, they cost nothing more.

    Args:
        student: of (B, T, D) states.
        teacher: of (B, T, D') states, with no gradient; None where there are no `losses`.
        mask: (B, T), true at real tokens; None counts every position. The others are not projected.
        losses: all at `temperature`, each times its `scale(temperature)`.
        weights: of each loss and, last, of the labels if there are any: those of the sum that will be differentiated.
        temperature: T; log-likelihoods are taken at 1.
        labels: (B, T), for one more loss, the last; None for none.

    Returns:
        (K,), a value for each weight; 0, with gradients of 0, where the mask is true nowhere.

    Raises:
        RuntimeError: in the backward pass, where it is asked for a graph of its own (`create_graph=True`).
    """
    if mask is None:
        mask = torch.ones_like(student.hidden_states[..., 0])
    precision, device = student.weight.dtype, student.weight.device.type
    if torch.is_autocast_enabled(device):
        precision = torch.get_autocast_dtype(device)
        teacher = teacher and teacher.to(precision)
    objective = _Objective(teacher, tuple(losses), temperature, labels, mask.nonzero(), precision)
    return _FusedLosses.apply(student.hidden_states, student.weight, student.bias, objective, tuple(weights))


@dataclass(frozen=True)
class _Objective:
    """What is computed from the student's logits; `tokens` (N, 2) are the real ones, by sentence and position.

    `precision` is that of the matrix products.
    """

    teacher: Teacher | None
    losses: tuple[WordLevelLoss, ...]
    temperature: float
    labels: SmoothedLabels | None
    tokens: Tensor
    precision: torch.dtype

    def evaluate(
        self, student: Projection, weights: Sequence[float], needed: Sequence[bool]
    ) -> tuple[Tensor, Gradients]:
        """Returns each loss's sum over the tokens, (K,), and the gradients that are needed of their weighted sum."""
        exact = torch.promote_types(self.precision, torch.float32)
        inputs = (student.hidden_states, student.weight, student.bias)
        gradients = [torch.zeros_like(tensor, dtype=exact) if need else None for tensor, need in zip(inputs, needed)]
        sums = student.weight.new_zeros(len(weights), dtype=exact)
        rows = min(_rows(CHUNK_ELEMENTS, student.weight), max(1, len(self.tokens)))
        student, teacher = student.to(self.precision).reserve(rows), self.teacher and self.teacher.reserve(rows)
        objective = replace(self, teacher=teacher)
        for tokens in self.tokens.split(rows):
            sums += objective._evaluate_chunk(student, tokens.unbind(dim=-1), weights, gradients)
        return sums, gradients

    def _evaluate_chunk(
        self, student: Projection, tokens: Tokens, weights: Sequence[float], gradients: Gradients
    ) -> Tensor:
        """Returns the sums (K,) over C tokens, and adds to the gradients. Nothing of (C, V) outlives it."""
        part, chunk = student.select(tokens), self._select(tokens)
        chunk = replace(chunk, teacher=chunk.teacher and chunk.teacher.project())
        logits, sums = part.project(), 0.0
        for start in range(0, len(logits.values), rows := _rows(BLOCK_ELEMENTS, student.weight)):
            block = slice(start, start + rows)
            values, gradient = chunk._select(block)._differentiate(logits.select(block), weights)
            logits.values[block] = gradient  # nobody needs these logits any more
            sums = sums + values
        _accumulate(logits.values, part, tokens, gradients)
        return sums

    def _select(self, tokens: Tokens | slice) -> "_Objective":
        teacher, labels = self.teacher and self.teacher.select(tokens), self.labels and self.labels.select(tokens)
        return replace(self, teacher=teacher, labels=labels)

    def _differentiate(self, logits: Logits, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Returns the losses' sums (K,) and the gradient of their weighted sum, both of and for logits (R, V)."""
        values, total = [], None
        student = logits.tempered_log_probs(self.temperature)
        for loss, weight, (value, gradient) in zip(self.losses, weights, self._differentiated(student)):
            scale = loss.scale(self.temperature)
            values.append(scale * value.sum())
            total = _add(total, gradient, weight * scale / self.temperature)
        if self.labels:
            untempered = student if self.temperature == 1 else torch.log_softmax(student * self.temperature, dim=-1)
            values.append(self.labels.per_token(untempered).sum())
            total = _add(total, self.labels.gradient(untempered), weights[-1])
        return torch.stack(values), total

    def _differentiated(self, student: Tensor) -> Iterator[Differentiated]:
        """Yields for each loss what `differentiate` does; the teacher's (R, V) are made where some loss reads them."""
        teacher = None
        if self.teacher is None:
            return  # nor are there any losses
        for loss in self.losses:
            if isinstance(self.teacher, TopK) and type(loss) in TOP_K_FORMS:
                yield TOP_K_FORMS[type(loss)](student, self.teacher, self.temperature)
                continue
            teacher = self.teacher.tempered_log_probs(self.temperature) if teacher is None else teacher
            yield differentiate(loss, student, teacher)


def _add(total: Tensor | None, gradient: Tensor, factor: float) -> Tensor:
    if total is not None:
        return total.add_(gradient, alpha=factor)
    return gradient if factor == 1 else gradient.mul_(factor)


def _rows(elements: Mapping[str, int], weight: Tensor) -> int:
    return max(1, elements.get(weight.device.type, elements["cuda"]) // len(weight))


def _accumulate(gradient: Tensor, part: Projection, tokens: Tokens, gradients: Gradients) -> None:
    """Adds what a chunk's gradient (C, V) with respect to its logits means for what the logits were made of."""
    of_states, of_weight, of_bias = gradients
    if of_bias is not None:
        of_bias += gradient.sum(dim=0)
    if part.weight.dtype == torch.float16:
        _accumulate_in_half(gradient, part, tokens, gradients)
        return
    gradient = gradient.to(part.weight.dtype)
    if of_states is not None:
        of_states[tokens] = (gradient @ part.weight).to(of_states.dtype)
    if of_weight is None:
        return
    if of_weight.dtype == gradient.dtype:
        of_weight.addmm_(gradient.t(), part.hidden_states)
    else:  # sums of lower precision, kept in full
        of_weight += gradient.t() @ part.hidden_states


def _accumulate_in_half(gradient: Tensor, part: Projection, tokens: Tokens, gradients: Gradients) -> None:
    """Does the products of `_accumulate` in float16, each token's row (V,) at a size of its own.

    A loss scale, which keeps other gradients in float16's range, comes too late for these: it multiplies them in the
    backward pass, when small ones would be 0 and large ones infinite already (Micikevicius et al. 2018, section 3.2).
    """
    of_states, of_weight, _ = gradients
    smallest = torch.finfo(gradient.dtype).tiny  # of a token whose gradient is 0
    sizes = torch.linalg.vector_norm(gradient, ord=1, dim=-1, keepdim=True).clamp_(min=smallest) / HALF_GRADIENT
    gradient = gradient.div_(sizes).half()  # (C, V)
    if of_states is not None:
        of_states[tokens] = (gradient @ part.weight).to(of_states.dtype) * sizes
    if of_weight is not None:
        unit = sizes.sum() / HALF_SHARES
        of_weight += (gradient.t() @ (part.hidden_states * (sizes / unit)).half()).to(of_weight.dtype) * unit


class _FusedLosses(torch.autograd.Function):
    """Means of an objective over N tokens, with their gradients at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        objective: _Objective,
        weights: tuple[float, ...],
    ) -> Tensor:
        student = Projection(hidden_states, weight, bias)
        sums, ctx.gradients = objective.evaluate(student, weights, ctx.needs_input_grad[:3])
        ctx.save_for_backward(hidden_states, weight, bias)
        ctx.objective, ctx.weights = objective, weights
        return sums / max(1, len(objective.tokens))

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The fused losses have no second derivative, which create_graph=True asks for; "
                "use the plain ones (distillation.fused: false)."
            )
        inputs, factor = ctx.saved_tensors, _common_factor(upstream.tolist(), ctx.weights)
        gradients, ctx.gradients = ctx.gradients, None  # given away, and not copied
        if factor is None or gradients is None:
            _, gradients = ctx.objective.evaluate(Projection(*inputs), upstream.tolist(), ctx.needs_input_grad[:3])
            factor = 1.0
        factor /= max(1, len(ctx.objective.tokens))
        of_inputs = [g if g is None else g.mul_(factor).to(tensor.dtype) for g, tensor in zip(gradients, inputs)]
        return *of_inputs, None, None


def _common_factor(upstream: Sequence[float], weights: Sequence[float]) -> float | None:
    """Returns c if `upstream` is c times `weights`, which it is unless another sum was differentiated, or None."""
    factor = upstream[0] / weights[0] if weights[0] else math.nan
    alike = all(math.isclose(given, factor * weight, rel_tol=1e-6) for given, weight in zip(upstream, weights))
    return factor if alike else None
