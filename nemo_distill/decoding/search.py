"""Beam search and sampling for any decoder that runs one position at a time.

A sentence leaves the batch as soon as its result is final, and each sentence has its own length limit. The result for
a sentence therefore does not depend on the other sentences.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from nemo_distill.decoding.settings import SearchSettings

# Checking if sentences are done makes the GPU wait, so it is not done in every step. On a CPU there is no such cost.
STEPS_BETWEEN_CHECKS = {"cpu": 1, "cuda": 4}
OFTEN_ENOUGH = 256  # tokens that nearly always have a total probability of top_p; sorting all takes 20 times as long


class StepDecoder(Protocol):
    """The decoder to search with; see `CachedDecoder`."""

    def start(self, src_ids: Tensor, src_mask: Tensor) -> Any: ...
    def step(self, state: Any, tokens: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class SpecialIds:
    """The special ids of the target vocabulary.

    Args:
        pad: follows the end in a batch.
        bos: the start.
        eos: the end.
        never: ids that are not generated. The others share their probability.
    """

    pad: int
    bos: int
    eos: int
    never: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """A hypothesis: `tokens` without special ones, its ranking score, and whether it reached the end of sentence."""

    tokens: list[int]
    score: float
    finished: bool


@dataclass
class Beams:
    """The hypotheses of B sentences, W for each, the best first.

    Args:
        sentences: (B,), the index of each sentence in the original batch.
        limits: (B, 1), the maximum number of tokens in a hypothesis.
        tokens: (B, W, t), all tokens so far.
        scores: (B, W), sums of log-probabilities.
        lengths: (B, W), numbers of tokens, including the end.
        ended: (B, W), true if the hypothesis is complete.
    """

    sentences: Tensor
    limits: Tensor
    tokens: Tensor
    scores: Tensor
    lengths: Tensor
    ended: Tensor

    def select(self, kept: Tensor) -> "Beams":
        """Returns the hypotheses of some sentences."""
        return Beams(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))


@torch.no_grad()
def search(
    decoder: StepDecoder,
    src_ids: Tensor,
    src_mask: Tensor,
    limits: Tensor,
    special: SpecialIds,
    settings: SearchSettings,
    uniforms: Tensor | None = None,
) -> list[list[Found]]:
    """Returns the `settings.n_best` best hypotheses of each sentence, best first.

    Args:
        decoder: provides the logits of the next token.
        src_ids: (B, S).
        src_mask: (B, S), true at real tokens.
        limits: (B,), the maximum number of tokens in each sentence's hypotheses, including the end.
        special: the special ids of the target.
        settings: the search settings.
        uniforms: random numbers in [0, 1) for sampling, (B, n_best, at least the largest limit).
    """
    found: list[list[Found]] = [[] for _ in src_ids]
    state = decoder.start(src_ids, src_mask)
    beams = _first_beams(src_ids, limits)
    latest = torch.full_like(beams.lengths, special.bos)  # (B, 1)
    never = torch.tensor(special.never, dtype=torch.long, device=src_ids.device)
    steps_between_checks = STEPS_BETWEEN_CHECKS.get(src_ids.device.type, 1)
    for step in range(1, int(limits.max()) + 1):
        logits = decoder.step(state, latest)  # (B, W, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).index_fill(-1, never, -torch.inf)
        if settings.method == "beam":
            beams, parents = _extend_beams(beams, logits, special, settings)
        elif uniforms is None:
            raise ValueError("method=sample: needs uniforms to draw samples with.")
        else:
            beams, parents = _extend_samples(beams, logits, special, settings, uniforms[beams.sentences, :, step - 1])
        latest = beams.tokens[:, :, -1]
        beams.ended |= (latest == special.eos) | (beams.lengths >= beams.limits)
        kept = None
        if step % steps_between_checks == 0:
            done = _done(beams, settings)
            if done.any():
                _collect(beams.select(done), special, settings, found)
                kept = (~done).nonzero().squeeze(1)
                beams, parents, latest = beams.select(kept), parents[kept], latest[kept]
                if not len(kept):
                    return found
        state.select(kept, _rows(parents, kept, logits.shape[1]))
    _collect(beams, special, settings, found)
    return found


def _first_beams(src_ids: Tensor, limits: Tensor) -> Beams:
    """Returns one empty hypothesis for each sentence."""
    count = len(src_ids)
    none = src_ids.new_zeros(count, 1)
    empty = src_ids.new_empty(count, 1, 0)
    indices = torch.arange(count, device=src_ids.device)
    return Beams(indices, limits.unsqueeze(1), empty, none.float(), none, none.bool())


def _rows(parents: Tensor, kept: Tensor | None, width: int) -> Tensor:
    """Returns the index of each hypothesis's parent among the previous B * `width` hypotheses."""
    first = kept if kept is not None else torch.arange(len(parents), device=parents.device)
    return (first.unsqueeze(1) * width + parents).flatten()


def _extend_beams(beams: Beams, logits: Tensor, special: SpecialIds, settings: SearchSettings) -> tuple[Beams, Tensor]:
    """Returns the best continuations of each sentence, and the hypotheses (B, W) that they continue."""
    gains, tokens = logits.log_softmax(dim=-1).topk(min(settings.beam_size, logits.shape[-1]), dim=-1)  # (B, W, K)
    ended = beams.ended.unsqueeze(-1)
    # A hypothesis that has ended has a single continuation, itself.
    itself = torch.full_like(gains[:1, :1], -torch.inf)
    itself[..., 0] = 0.0
    scores = beams.scores.unsqueeze(-1) + torch.where(ended, itself, gains)
    lengths = (beams.lengths.unsqueeze(-1) + ~ended).expand_as(scores)
    ranks = (scores / settings.penalty(lengths)).flatten(1)  # (B, W * K)
    chosen = ranks.topk(min(settings.beam_size, ranks.shape[1]), dim=1).indices  # (B, W')
    parents = chosen.div(tokens.shape[-1], rounding_mode="floor")
    tokens = tokens.masked_fill(ended, special.pad).flatten(1).gather(1, chosen)
    scores = scores.flatten(1).gather(1, chosen)
    return _extended(beams, parents, tokens, scores), parents


def _extend_samples(
    beams: Beams, logits: Tensor, special: SpecialIds, settings: SearchSettings, uniforms: Tensor
) -> tuple[Beams, Tensor]:
    """Draws a token for each sample. In the first step, all samples of a sentence share one empty hypothesis."""
    width = beams.scores.shape[1]
    parents = torch.arange(uniforms.shape[1], device=logits.device).clamp(max=width - 1).expand_as(uniforms)
    log_probs = logits.log_softmax(dim=-1)  # (B, W, V)
    chosen = _draw(logits / settings.temperature, settings, uniforms)  # (B, n)
    ended = beams.ended.gather(1, parents)
    log_probs = log_probs.expand(-1, uniforms.shape[1], -1)
    gains = log_probs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1).masked_fill(ended, 0.0)
    scores = beams.scores.gather(1, parents) + gains
    return _extended(beams, parents, chosen.masked_fill(ended, special.pad), scores), parents


def _draw(logits: Tensor, settings: SearchSettings, uniforms: Tensor) -> Tensor:
    """Draws ids (B, n) by inverting the cumulative distribution of logits (B, W, V) at `uniforms` (B, n)."""
    probabilities = logits.softmax(dim=-1)
    if settings.is_truncated:
        probabilities = probabilities * (probabilities >= _least_drawn(probabilities, settings))
    return _inverted(probabilities, uniforms)


def _least_drawn(probabilities: Tensor, settings: SearchSettings) -> Tensor:
    """Returns the smallest probability (B, W, 1) that a token needs to be drawn; equal tokens are treated alike."""
    largest = probabilities.amax(dim=-1, keepdim=True)
    least = largest.clamp(max=settings.epsilon)
    if settings.top_k or settings.top_p < 1:
        ordered = _largest(probabilities, settings)  # (B, W, K)
        cumulative = ordered.cumsum(dim=-1)
        # A token is allowed if the tokens before it have a total probability below top_p.
        refused = cumulative - ordered >= settings.top_p * (cumulative[..., -1:] if settings.top_k else 1.0)
        least = least.maximum(ordered.masked_fill(refused, torch.inf).amin(dim=-1, keepdim=True))
    return least


def _largest(probabilities: Tensor, settings: SearchSettings) -> Tensor:
    """Returns the largest probabilities (B, W, K) in order, at least those of the `top_k` or of the `top_p`."""
    size = probabilities.shape[-1]
    if settings.top_k:
        return probabilities.topk(min(settings.top_k, size), dim=-1).values
    largest = probabilities.topk(min(OFTEN_ENOUGH, size), dim=-1).values
    if (largest.sum(dim=-1) > settings.top_p).all():
        return largest
    return probabilities.sort(dim=-1, descending=True).values


def _inverted(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """Returns indices (B, n) drawn from probabilities (B, W, V), which need not sum to 1."""
    cumulative = probabilities.cumsum(dim=-1).expand(-1, uniforms.shape[1], -1).contiguous()
    drawn = torch.searchsorted(cumulative, uniforms.unsqueeze(-1) * cumulative[..., -1:], right=True)
    drawn = drawn.clamp(max=cumulative.shape[-1] - 1)
    probabilities = probabilities.expand_as(cumulative)
    possible = probabilities.gather(-1, drawn) > 0  # not, if sums were rounded
    return torch.where(possible, drawn, probabilities.argmax(dim=-1, keepdim=True)).squeeze(-1)


def _extended(beams: Beams, parents: Tensor, tokens: Tensor, scores: Tensor) -> Beams:
    before = beams.tokens.gather(1, parents.unsqueeze(-1).expand(-1, -1, beams.tokens.shape[-1]))
    ended = beams.ended.gather(1, parents)
    return replace(
        beams,
        tokens=torch.cat((before, tokens.unsqueeze(-1)), dim=-1),
        scores=scores,
        lengths=beams.lengths.gather(1, parents) + ~ended,
        ended=ended,
    )


def _done(beams: Beams, settings: SearchSettings) -> Tensor:
    """Returns a mask (B,) of the sentences whose result is final.

    Log-probabilities are never positive, so the best possible final score of an unfinished hypothesis is its current
    sum with the penalty at the length limit. If this is not better than the last of the `n_best`, nothing can change.
    """
    if settings.method == "sample":
        return beams.ended.all(dim=1)
    ranks = beams.scores / settings.penalty(beams.lengths)
    best_to_come = (beams.scores / settings.penalty(beams.limits)).masked_fill(beams.ended, -torch.inf).amax(dim=1)
    last = min(settings.n_best, ranks.shape[1]) - 1
    return beams.ended[:, : last + 1].all(dim=1) & (best_to_come <= ranks[:, last])


def _collect(beams: Beams, special: SpecialIds, settings: SearchSettings, found: list[list[Found]]) -> None:
    ranks = beams.scores / settings.penalty(beams.lengths)
    order = ranks.argsort(dim=1, descending=True, stable=True)[:, : settings.n_best]
    columns = (beams.sentences, beams.tokens, ranks, beams.lengths, order)
    for sentence, tokens, scores, lengths, best in zip(*(column.tolist() for column in columns)):
        for index in best:
            if scores[index] == -math.inf:  # a beam wider than there are hypotheses
                continue
            chosen = tokens[index][: lengths[index]]
            finished = chosen[-1] == special.eos
            found[sentence].append(Found(chosen[:-1] if finished else chosen, scores[index], finished))
