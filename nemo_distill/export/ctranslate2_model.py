"""Converts NeMo's translation Transformer to CTranslate2. Importing this module imports ctranslate2.

Some differences are not obvious from the names. NeMo divides both queries and keys by the fourth root of the head
width, which equals the usual division by the square root. It adds positions to unscaled embeddings and always
normalizes the sum. Its `gelu` is the exact one. Its fixed positions interleave sines and cosines and are divided by
the square root of the width. CTranslate2 would compute them differently, so the table is exported.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctranslate2.converters.utils import fuse_linear
from ctranslate2.specs import common_spec, transformer_spec
from torch import Tensor, nn

from nemo_distill.export.record import ExportRecord
from nemo_distill.nemo_files.host_fixes import fixed_positions
from nemo_distill.nemo_files.model_kinds import ends_with_norm
from nemo_distill.nemo_files.tokenizer_files import Vocabulary, read_vocabulary

Tokens = tuple[str, ...]
NAMED = ("unk", "bos", "eos")
ACTIVATIONS = {"relu": common_spec.Activation.RELU, "gelu": common_spec.Activation.GELU}


def name_ids(
    source: Vocabulary, target: Vocabulary, source_size: int, target_size: int
) -> tuple[Tokens, Tokens, dict[str, str]]:
    """Names the ids by their pieces. Within a side, all names are different.

    Args:
        source_size: number of rows in the encoder's embeddings. NeMo 1.x pads the vocabulary to a multiple of 8; the
            additional ids get names of their own.
        target_size: number of rows in the decoder's embeddings.

    Returns:
        The names of both sides in the order of their ids, and the names of unk, bos and eos, which are the target's
        on both sides.
    """
    special_tokens = {name: target.pieces[target.special_ids[name]] for name in NAMED}
    return (
        _tokens(source, source_size, special_tokens),
        _tokens(target, target_size, special_tokens),
        special_tokens,
    )


def _tokens(vocabulary: Vocabulary, size: int, special_tokens: Mapping[str, str]) -> Tokens:
    tokens = [*vocabulary.pieces, *(f"<unused_{index}>" for index in range(len(vocabulary.pieces), size))]
    names = {vocabulary.special_ids[name]: token for name, token in special_tokens.items()}
    taken = set(names.values())
    for index, token in enumerate(tokens):
        if index in names:
            tokens[index] = names[index]
            continue
        while token in taken:
            token += "_"
        tokens[index] = token
        taken.add(token)
    return tuple(tokens)


def write_model(model: Any, folder: Path, record: ExportRecord) -> None:
    """Writes a restored `MTEncDecModel` to `folder`.

    Args:
        model: the model, in eval mode.
        folder: must contain the tokenizers that the record names.
    """
    spec = transformer_spec.TransformerSpec(
        encoder_spec(model, record.source.positions), decoder_spec(model, record.target.positions)
    )
    spec.config.layer_norm_epsilon = model.encoder.embedding.layer_norm.eps
    sizes = [stack.embedding.token_embedding.num_embeddings for stack in (model.encoder, model.decoder)]
    write_spec(spec, sizes, folder, record)


def write_spec(
    spec: transformer_spec.TransformerSpec, sizes: Sequence[int], folder: Path, record: ExportRecord
) -> None:
    """Writes a specification to `folder`.

    Args:
        spec: the specification.
        sizes: number of rows in the embeddings of encoder and decoder.
        folder: as in `write_model`.
        record: as in `write_model`.
    """
    source, target = (read_vocabulary(folder / side.tokenizer) for side in (record.source, record.target))
    save_spec(spec, *name_ids(source, target, *sizes), folder, record.quantization)


def save_spec(
    spec: transformer_spec.TransformerSpec,
    source: Tokens,
    target: Tokens,
    special_tokens: Mapping[str, str],
    folder: Path,
    quantization: str,
) -> None:
    """Saves a specification to a folder, with its vocabularies as `name_ids` returns them."""
    spec.register_source_vocabulary(list(source))
    spec.register_target_vocabulary(list(target))
    for name, token in special_tokens.items():
        setattr(spec.config, f"{name}_token", token)
    spec.config.decoder_start_token = special_tokens["bos"]
    spec.config.add_source_bos = spec.config.add_source_eos = True
    spec.validate()
    spec.optimize(quantization)
    spec.save(str(folder))


def empty_stack(spec_class: Any, config: Mapping[str, Any]) -> Any:
    """Returns the specification of an encoder or decoder without weights, by its section of a model's config."""
    return spec_class(
        config["num_layers"],
        config["num_attention_heads"],
        pre_norm=config.get("pre_ln", False),
        no_final_norm=not ends_with_norm(config),
        activation=ACTIVATIONS[config.get("hidden_act", "relu")],
        layernorm_embedding=True,
    )


def encoder_spec(model: Any, positions: int) -> transformer_spec.TransformerEncoderSpec:
    """Returns the specification of a model's `TransformerEncoderNM`."""
    stack = model.encoder.encoder
    spec = empty_stack(transformer_spec.TransformerEncoderSpec, model.cfg.encoder)
    _set_embedding(spec, spec.embeddings[0], model.encoder.embedding, positions)
    _set_final_norm(spec, stack)
    for layer_spec, layer in zip(spec.layer, stack.layers):
        _set_self_attention(layer_spec.self_attention, layer.first_sub_layer, layer.layer_norm_1)
        _set_feed_forward(layer_spec.ffn, layer.second_sub_layer, layer.layer_norm_2)
    return spec


def decoder_spec(model: Any, positions: int) -> transformer_spec.TransformerDecoderSpec:
    """Returns the specification of a model's `TransformerDecoderNM` and its output projection."""
    stack = model.decoder.decoder
    spec = empty_stack(transformer_spec.TransformerDecoderSpec, model.cfg.decoder)
    _set_embedding(spec, spec.embeddings, model.decoder.embedding, positions)
    _set_final_norm(spec, stack)
    _set_linear(spec.projection, model.log_softmax.mlp.last_linear_layer)
    for layer_spec, layer in zip(spec.layer, stack.layers):
        _set_self_attention(layer_spec.self_attention, layer.first_sub_layer, layer.layer_norm_1)
        _set_cross_attention(layer_spec.attention, layer.second_sub_layer, layer.layer_norm_2)
        _set_feed_forward(layer_spec.ffn, layer.third_sub_layer, layer.layer_norm_3)
    return spec


def position_table(embedding: Any, positions: int) -> Tensor:
    """Returns the first `positions` rows (positions, D) of a `TransformerEmbedding`'s position table.

    Fixed tables can have any length. Learned tables have as many rows as the model has learned.
    """
    table = embedding.position_embedding
    if isinstance(table, nn.Embedding):
        return table.weight[:positions]
    return fixed_positions(table, positions)


def _set_embedding(spec: Any, token_spec: Any, embedding: Any, positions: int) -> None:
    spec.scale_embeddings = False
    token_spec.weight = _copy(embedding.token_embedding.weight)
    spec.position_encodings.encodings = _copy(position_table(embedding, positions))
    _set_norm(spec.layernorm_embedding, embedding.layer_norm)


def _set_final_norm(spec: Any, stack: Any) -> None:
    if stack.final_layer_norm is not None:
        _set_norm(spec.layer_norm, stack.final_layer_norm)


def _set_self_attention(spec: Any, attention: Any, norm: nn.LayerNorm) -> None:
    fuse_linear(spec.linear[0], _linears(attention.query_net, attention.key_net, attention.value_net))
    _set_linear(spec.linear[1], attention.out_projection)
    _set_norm(spec.layer_norm, norm)


def _set_cross_attention(spec: Any, attention: Any, norm: nn.LayerNorm) -> None:
    _set_linear(spec.linear[0], attention.query_net)
    fuse_linear(spec.linear[1], _linears(attention.key_net, attention.value_net))
    _set_linear(spec.linear[2], attention.out_projection)
    _set_norm(spec.layer_norm, norm)


def _set_feed_forward(spec: Any, feed_forward: Any, norm: nn.LayerNorm) -> None:
    _set_linear(spec.linear_0, feed_forward.dense_in)
    _set_linear(spec.linear_1, feed_forward.dense_out)
    _set_norm(spec.layer_norm, norm)


def _linears(*linears: nn.Linear) -> Sequence[common_spec.LinearSpec]:
    specs = [common_spec.LinearSpec() for _ in linears]
    for spec, linear in zip(specs, linears):
        _set_linear(spec, linear)
    return specs


def _set_linear(spec: common_spec.LinearSpec, linear: nn.Linear) -> None:
    spec.weight, spec.bias = _copy(linear.weight), _copy(linear.bias)


def _set_norm(spec: common_spec.LayerNormSpec, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = _copy(norm.weight), _copy(norm.bias)


def _copy(tensor: Tensor) -> Tensor:
    """Copies a tensor, because CTranslate2 quantizes in place."""
    return tensor.detach().clone()
