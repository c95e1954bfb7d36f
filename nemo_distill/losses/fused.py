"""Computes the word-level losses of a step in chunks of tokens, to save memory.

The plain losses keep several (N, V) tensors, each of 0.5 GB for 4,096 tokens and 32,000 words. This module computes
the logits of one chunk of tokens at a time, turns them into losses and gradients, and frees them. The gradients are
computed in the forward pass, so the backward pass need not project the hidden states again. The forward pass must
therefore know the weights of the losses in the total.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nemo_distill.losses.closed_forms import TOP_K_FORMS, LossesAndGradients, SmoothedLabels, differentiate
from nemo_distill.losses.projection import Distributions, Logits, Projection, Tokens
from nemo_distill.losses.top_k import TopK
from nemo_distill.losses.word_level import WordLevelLoss

CHUNK_ELEMENTS = {"cpu": 16_384_000, "cuda": 20_000_000}  # logits that are in memory at the same time
BLOCK_ELEMENTS = {"cpu": 256_000, "cuda": 20_000_000}  # logits processed at the same time; on CPU, they fit the cache
# In float16, values below 6e-8 become 0 and values above 65,504 become infinite. Before a float16 matrix product, each
# token's gradient is scaled to L1 norm HALF_GRADIENT, and the tokens' scale factors to sum HALF_SHARES.
HALF_GRADIENT, HALF_SHARES = 32.0, 16.0
Gradients = list[Tensor | None]  # with respect to the student's hidden states, weight and bias


def fused_losses(
    student: Projection,
    teacher: Distributions | None,
    mask: Tensor | None,
    losses: Sequence[WordLevelLoss],
    weights: Sequence[float],
    temperature: float = 1.0,
    labels: SmoothedLabels | None = None,
    pairs: Tensor | None = None,
) -> Tensor:
    """Returns the mean of each loss over the real tokens, equal to the values of the plain losses.

    The values can be summed with any weights. The sum can be differentiated with respect to the student's hidden
    states, weight and bias. If its weights are proportional to `weights`, the backward pass is almost free. Otherwise
    it repeats the computation.

    Args:
        student: the student's projection, with hidden states (B, T, D).
        teacher: the teacher's distributions for (B, T) positions, without gradients; None if `losses` is empty.
        mask: (B, T), true at real tokens, or their weights in the mean; None counts every position. Masked positions,
            and those of weight 0, are not projected.
        losses: the losses at `temperature`. Each is multiplied by its `scale(temperature)`.
        weights: the expected weight of each loss in the total, and last that of `labels` if given.
        temperature: T. The loss on `labels` always uses temperature 1.
        labels: (B, T). If given, the negative log-likelihood of these labels is added as the last loss.
        pairs: (B, T), true where the teacher has a distribution; the means of `losses` are over these real tokens.
            None: it has one everywhere.

    Returns:
        (K,), one value per weight. If no token is real, all values and gradients are 0.

    Raises:
        RuntimeError: in the backward pass, if called with `create_graph=True`.
    """
    if mask is None:
        mask = torch.ones_like(student.hidden_states[..., 0], dtype=torch.bool)
    precision, device = student.weight.dtype, student.weight.device.type
    if torch.is_autocast_enabled(device):
        precision = torch.get_autocast_dtype(device)
        teacher = teacher and teacher.to(precision)
    shares = mask if mask.is_floating_point() else None
    factors = None if pairs is None else _paired_factors(mask, pairs)
    tokens = mask.nonzero()
    objective = _Objective(teacher, tuple(losses), temperature, labels, tokens, precision, shares, factors)
    return _FusedLosses.apply(student.hidden_states, student.weight, student.bias, objective, tuple(weights))


def _paired_factors(mask: Tensor, pairs: Tensor) -> Tensor:
    """Returns (B, T), the factors that turn a mean over real tokens into one over those that are paired."""
    paired = (mask * pairs).sum()
    return pairs * (mask.sum() / paired.where(paired > 0, 1))


@dataclass(frozen=True)
class _Objective:
    """The losses to compute from the student's logits.

    `tokens` (N, 2) are the sentence and position indices of the real tokens. The matrix products are in `precision`.
    `shares` (B, T) are the tokens' weights in the mean; None: equal weights. `factors` (B, T) multiply the losses on
    distributions besides; None: 1.
    """

    teacher: Distributions | None
    losses: tuple[WordLevelLoss, ...]
    temperature: float
    labels: SmoothedLabels | None
    tokens: Tensor
    precision: torch.dtype
    shares: Tensor | None = None
    factors: Tensor | None = None

    @property
    def total(self) -> int | Tensor:
        """What the sum over the tokens is divided by."""
        if self.shares is None or not len(self.tokens):
            return max(1, len(self.tokens))
        return self.shares.sum()

    def evaluate(
        self, student: Projection, weights: Sequence[float], needed: Sequence[bool]
    ) -> tuple[Tensor, Gradients]:
        """Returns the sum (K,) of each loss over the tokens, and the needed gradients of the weighted total."""
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
        """Returns the sums (K,) over a chunk of C tokens and adds to `gradients`. Keeps no (C, V) tensor."""
        part, chunk = student.select(tokens), self._select(tokens)
        chunk = replace(chunk, teacher=chunk.teacher and chunk.teacher.project())
        logits, sums = part.project(), 0.0
        for start in range(0, len(logits.values), rows := _rows(BLOCK_ELEMENTS, student.weight)):
            block = slice(start, start + rows)
            values, gradient = chunk._select(block)._differentiate(logits.select(block), weights)
            logits.values[block] = gradient  # these logits are no longer needed, so reuse their memory
            sums = sums + values
        _accumulate(logits.values, part, tokens, gradients)
        return sums

    def _select(self, tokens: Tokens) -> "_Objective":
        teacher, labels = self.teacher and self.teacher.select(tokens), self.labels and self.labels.select(tokens)
        shares, factors = (one if one is None else one[tokens] for one in (self.shares, self.factors))
        return replace(self, teacher=teacher, labels=labels, shares=shares, factors=factors)

    def _differentiate(self, logits: Logits, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Returns the sums (K,) of the losses over R tokens, and the gradient (R, V) of the weighted total."""
        values, total = [], None
        student = logits.tempered_log_probs(self.temperature)
        for loss, weight, (value, gradient) in zip(self.losses, weights, self._differentiated(student)):
            scale = loss.scale(self.temperature)
            if self.factors is not None:
                value, gradient = value * self.factors, gradient.mul_(self.factors.unsqueeze(-1))
            values.append(scale * self._sum(value))
            total = _add(total, gradient, weight * scale / self.temperature)
        if self.labels:
            untempered = student if self.temperature == 1 else torch.log_softmax(student * self.temperature, dim=-1)
            values.append(self._sum(self.labels.per_token(untempered)))
            total = _add(total, self.labels.gradient(untempered), weights[-1])
        if self.shares is not None and total is not None:
            total.mul_(self.shares.unsqueeze(-1))
        return torch.stack(values), total

    def _sum(self, values: Tensor) -> Tensor:
        return values.sum() if self.shares is None else (values * self.shares).sum()

    def _differentiated(self, student: Tensor) -> Iterator[LossesAndGradients]:
        """Yields the value and gradient of each loss. Computes the teacher's (R, V) tensor only if a loss needs it."""
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
    """Adds a chunk's contribution to the parameter gradients, given its gradient (C, V) with respect to the logits."""
    states_gradient, weight_gradient, bias_gradient = gradients
    if bias_gradient is not None:
        bias_gradient += gradient.sum(dim=0)
    if part.weight.dtype == torch.float16:
        _accumulate_in_half(gradient, part, tokens, gradients)
        return
    gradient = gradient.to(part.weight.dtype)
    if states_gradient is not None:
        states_gradient[tokens] = (gradient @ part.weight).to(states_gradient.dtype)
    if weight_gradient is None:
        return
    if weight_gradient.dtype == gradient.dtype:
        weight_gradient.addmm_(gradient.t(), part.hidden_states)
    else:  # the product has lower precision than the sum
        weight_gradient += gradient.t() @ part.hidden_states


def _accumulate_in_half(gradient: Tensor, part: Projection, tokens: Tokens, gradients: Gradients) -> None:
    """Does the matrix products of `_accumulate` in float16, with a scale factor for each token.

    The usual loss scaling cannot help here: it is applied in the backward pass, after these products have already
    underflowed or overflowed (Micikevicius et al. 2018, section 3.2).
    """
    states_gradient, weight_gradient, _ = gradients
    smallest = torch.finfo(gradient.dtype).tiny  # avoids a division by zero for tokens with gradient 0
    sizes = torch.linalg.vector_norm(gradient, ord=1, dim=-1, keepdim=True).clamp_(min=smallest) / HALF_GRADIENT
    gradient = gradient.div_(sizes).half()  # (C, V)
    if states_gradient is not None:
        states_gradient[tokens] = (gradient @ part.weight).to(states_gradient.dtype) * sizes
    if weight_gradient is not None:
        unit = sizes.sum() / HALF_SHARES
        product = gradient.t() @ (part.hidden_states * (sizes / unit)).half()  # (V, D)
        weight_gradient += product.to(weight_gradient.dtype) * unit


class _FusedLosses(torch.autograd.Function):
    """The mean losses of an objective over N tokens. The gradients are computed in the forward pass."""

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
        return sums / objective.total

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "The fused losses do not support create_graph=True (second derivatives); "
                "set distillation.fused=false to use the plain losses."
            )
        inputs, factor = ctx.saved_tensors, _common_factor(upstream.tolist(), ctx.weights)
        gradients, ctx.gradients = ctx.gradients, None  # passed on without a copy
        if factor is None or gradients is None:
            _, gradients = ctx.objective.evaluate(Projection(*inputs), upstream.tolist(), ctx.needs_input_grad[:3])
            factor = 1.0
        factor = factor / ctx.objective.total
        input_gradients = [g if g is None else g.mul_(factor).to(tensor.dtype) for g, tensor in zip(gradients, inputs)]
        return *input_gradients, None, None


def _common_factor(upstream: Sequence[float], weights: Sequence[float]) -> float | None:
    """Returns c if `upstream` equals c times `weights`, otherwise None."""
    factor = upstream[0] / weights[0] if weights[0] else math.nan
    alike = all(math.isclose(given, factor * weight, rel_tol=1e-6) for given, weight in zip(upstream, weights))
    return factor if alike else None
