"""Decodes with several models together."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from nemo_distill.core.teachers import average_log_probs, normalized
from nemo_distill.decoding.cached_decoder import CachedDecoder, DecoderState


@dataclass
class EnsembleState:
    """One decoder state for each model."""

    states: list[DecoderState]

    def select(self, sentences: Tensor | None, rows: Tensor | None) -> None:
        """See `DecoderState`."""
        for state in self.states:
            state.select(sentences, rows)


class EnsembleDecoder:
    """Averages the next-token distributions of several models with the same vocabulary.

    Args:
        decoders: one for each model.
        weights: the weight of each model. They are normalized to sum to 1. None: equal weights.
    """

    def __init__(self, decoders: Sequence[CachedDecoder], weights: Sequence[float] | None = None):
        self.decoders = decoders
        self.weights = normalized(weights or [1.0] * len(decoders))

    def start(self, src_ids: Tensor, src_mask: Tensor) -> EnsembleState:
        """See `CachedDecoder`."""
        return EnsembleState([decoder.start(src_ids, src_mask) for decoder in self.decoders])

    def step(self, state: EnsembleState, tokens: Tensor) -> Tensor:
        """Returns the logarithm (B, W, V) of the averaged next-token distributions."""
        steps = [decoder.step(own, tokens) for decoder, own in zip(self.decoders, state.states)]
        return average_log_probs([logits.float().log_softmax(dim=-1) for logits in steps], self.weights)
