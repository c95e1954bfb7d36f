"""Batches whose targets are the student's own translations (GKD: Agarwal et al. 2024, algorithm 1).

The teacher scores each word that the student has chosen, after the words that the student chose before it. No gradient
passes through the choice.
"""

import os
import random
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from nemo_distill.config.schedule import Schedule, as_schedule
from nemo_distill.config.section import changed, section
from nemo_distill.decoding.search import Found, SpecialIds
from nemo_distill.decoding.settings import SearchSettings


@section
class OnPolicy:
    """Training on the student's own translations (Agarwal et al. 2024)."""

    share: Annotated[float, Field(ge=0, le=1)] | Schedule = 0.0
    """Share of the optimizer steps whose targets are the student's translations instead of the text's."""
    method: Literal["sampled", "greedy"] = "sampled"
    """`sampled` draws each word from the student's distribution; `greedy` takes the most probable word."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the student's logits before words are drawn."""
    max_delta: int = Field(default=10, ge=0)
    """Maximum number of tokens of a translation minus those of its source."""

    def problems(self) -> list[str]:
        """Returns the problems of this section, one sentence each."""
        schedule = as_schedule(self.share)
        problems = [
            f"share.{key}={value:g}: must be at most 1."
            for key, value in (("start", schedule.start), ("end", schedule.end))
            if value is not None and value > 1
        ]
        if self.method == "greedy" and self.temperature != 1:
            problems.append(f"temperature={self.temperature:g}: greedy search has none; set method=sampled.")
        if self.is_off:
            unread = changed(self, "method", "temperature", "max_delta")
            problems += [f"{key}={value}: has no effect with share=0." for key, value in unread.items()]
        return problems

    @property
    def is_off(self) -> bool:
        """True if no step is trained on the student's translations."""
        return as_schedule(self.share).is_zero

    @property
    def is_always(self) -> bool:
        """True if every step is trained on the student's translations."""
        schedule = as_schedule(self.share)
        return schedule.start == schedule.last == 1

    def share_at(self, step: int) -> float:
        """Returns the share at an optimizer step."""
        return as_schedule(self.share).at(step)

    def is_drawn(self, step: int) -> bool:
        """True if a step is trained on the student's translations. The seed of the training decides this."""
        return _random(step).random() < self.share_at(step)

    def search_settings(self, step: int, device: int) -> SearchSettings:
        """Returns the search settings of a step. Samples depend on the seed, the step, the device and the source."""
        if self.method == "greedy":
            return SearchSettings(beam_size=1, length_penalty=0.0, max_delta=self.max_delta)
        seed = _random(step, device).getrandbits(62)
        return SearchSettings(
            method="sample", length_penalty=0.0, temperature=self.temperature, max_delta=self.max_delta, seed=seed
        )


def _random(*place: int) -> random.Random:
    """Returns a generator that depends only on the seed of the training and the place in it."""
    return random.Random(f"{os.environ.get('PL_GLOBAL_SEED', 0)} {place}")


def target_tensors(
    translations: Sequence[Found], special: SpecialIds, longest: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns decoder inputs, their mask and labels (B, T) of translations. Empty ones have no labels.

    A translation that was cut at its limit has no end, so no label stands for it.

    Args:
        translations: one of each of B sources.
        special: the special ids of the target.
        longest: the maximum of T; None: no limit.
    """
    labels = [[*one.tokens, special.eos] if one.finished else one.tokens for one in translations]
    labels = [ids[:longest] if one.tokens else [] for one, ids in zip(translations, labels)]
    width = max(1, *map(len, labels))
    padded = torch.tensor([ids + [special.pad] * (width - len(ids)) for ids in labels])
    starts = padded.new_full((len(padded), 1), special.bos)
    # An empty one keeps its start, because a decoder needs something to attend to.
    lengths = torch.tensor([max(1, len(ids)) for ids in labels])
    return torch.cat((starts, padded[:, :-1]), dim=1), (torch.arange(width) < lengths.unsqueeze(1)).int(), padded
