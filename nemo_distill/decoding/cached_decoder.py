"""Runs a translation model one target position at a time, with NeMo's own modules.

NeMo's generators cache the inputs of each layer, and project them to keys and values again at every step. They also do
this for the encoder states, once per hypothesis. Here, keys and values are computed only once: for a target token when
it is reached, and for a source token before the first step, shared by all hypotheses of its sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from nemo.collections.nlp.modules.common.transformer.transformer import TransformerDecoderNM
from nemo.collections.nlp.modules.common.transformer.transformer_decoders import TransformerDecoderBlock
from nemo.collections.nlp.modules.common.transformer.transformer_modules import MultiHeadAttention
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from nemo_distill.core.teachers import average_log_probs, normalized


@dataclass
class DecoderState:
    """The decoder state for a batch of B sentences with W hypotheses each.

    Args:
        source: for each layer, the keys and values of the encoder states (2, B, H, S, d).
        source_mask: (B, 1, 1, S), true at real tokens.
        target: for each layer, the keys and values of the tokens so far (2, B * W, H, t, d).
        position: t, the position of the next token.
    """

    source: list[Tensor]
    source_mask: Tensor
    target: list[Tensor]
    position: int = 0

    def select(self, sentences: Tensor | None, rows: Tensor) -> None:
        """Keeps some sentences and hypotheses, in a new order.

        Args:
            sentences: indices of the sentences to keep; None keeps all.
            rows: for each new hypothesis, the index of its parent among the B * W old ones.
        """
        if sentences is not None:
            self.source = [states.index_select(1, sentences) for states in self.source]
            self.source_mask = self.source_mask.index_select(0, sentences)
        self.target = [states.index_select(1, rows) for states in self.target]


class CachedDecoder:
    """Encoder and decoder of a model, as needed for search.

    Args:
        model: the model, in eval mode.

    Raises:
        ValueError: if the decoder is not NeMo's own Transformer.
    """

    def __init__(self, model: MTEncDecModel):
        if not isinstance(model.decoder, TransformerDecoderNM):
            kind = type(model.decoder).__name__
            raise ValueError(f"the decoder is a {kind}; only NeMo's TransformerDecoderNM is supported.")
        self.model = model
        self.embedding = model.decoder.embedding
        self.stack = model.decoder.decoder
        positions = self.embedding.position_embedding
        self.positions = positions.weight if self.embedding.learn_positional_encodings else positions.pos_enc

    @property
    def max_length(self) -> int:
        """The maximum number of tokens in a hypothesis, given by the decoder's positions."""
        return len(self.positions)

    def start(self, src_ids: Tensor, src_mask: Tensor) -> DecoderState:
        """Encodes a batch and returns the initial decoder state.

        Args:
            src_ids: (B, S).
            src_mask: (B, S), true at real tokens.
        """
        encoded = self.model.encoder(input_ids=src_ids, encoder_mask=src_mask)  # (B, S, D)
        source = [_keys_and_values(layer.second_sub_layer, encoded) for layer in self.stack.layers]
        return DecoderState(source, src_mask.bool()[:, None, None], [encoded.new_empty(0)] * len(source))

    def step(self, state: DecoderState, tokens: Tensor) -> Tensor:
        """Reads one token of each hypothesis, and returns the logits (B, W, V) of the next token.

        Args:
            state: the state from `start`; updated in place.
            tokens: (B, W), the latest token of each hypothesis.
        """
        hidden = self.embedding.token_embedding(tokens) + self.positions[state.position]  # (B, W, D)
        hidden = self.embedding.layer_norm(hidden)
        for index, layer in enumerate(self.stack.layers):
            hidden = self._layer(layer, hidden, state, index)
        state.position += 1
        if self.stack.final_layer_norm is not None:
            hidden = self.stack.final_layer_norm(hidden)
        head = self.model.log_softmax.mlp
        for index in range(head.layers):
            hidden = getattr(head, f"layer{index}")(hidden)
        return hidden

    def _layer(self, layer: TransformerDecoderBlock, hidden: Tensor, state: DecoderState, index: int) -> Tensor:
        source = state.source[index], state.source_mask
        parts = (
            (layer.layer_norm_1, lambda queries: _attend_to_target(layer.first_sub_layer, queries, state, index)),
            (layer.layer_norm_2, lambda queries: _attend(layer.second_sub_layer, queries, *source)),
            (layer.layer_norm_3, layer.third_sub_layer),
        )
        for norm, sub_layer in parts:
            hidden = hidden + sub_layer(norm(hidden)) if layer.pre_ln else norm(hidden + sub_layer(hidden))
        return hidden


def _attend_to_target(attention: MultiHeadAttention, hidden: Tensor, state: DecoderState, index: int) -> Tensor:
    rows = hidden.flatten(0, 1).unsqueeze(1)  # (B * W, 1, D)
    new = _keys_and_values(attention, rows)
    state.target[index] = torch.cat((state.target[index], new), dim=3) if state.position else new
    return _attend(attention, rows, state.target[index]).view_as(hidden)


def _heads(attention: MultiHeadAttention, projected: Tensor) -> Tensor:
    """Reshapes (B, T, D) to (B, H, T, d)."""
    return projected.unflatten(-1, (attention.num_attention_heads, attention.attn_head_size)).transpose(1, 2)


def _keys_and_values(attention: MultiHeadAttention, states: Tensor) -> Tensor:
    projected = (attention.key_net(states), attention.value_net(states))
    return torch.stack([_heads(attention, projection) for projection in projected])  # (2, B, H, T, d)


def _attend(attention: MultiHeadAttention, queries: Tensor, states: Tensor, mask: Tensor | None = None) -> Tensor:
    context = scaled_dot_product_attention(_heads(attention, attention.query_net(queries)), *states, attn_mask=mask)
    return attention.out_projection(context.transpose(1, 2).flatten(2))


@dataclass
class EnsembleState:
    """One decoder state for each model."""

    states: list[DecoderState]

    def select(self, sentences: Tensor | None, rows: Tensor) -> None:
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
