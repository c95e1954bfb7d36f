"""Converts NeMo's translation Transformer to a Hugging Face model: mBART if it is pre-LN, BART if it is post-LN.

Both add positions to the embeddings and always normalize the sum, as NeMo does. mBART has pre-LN layers and a final
normalization in both stacks, BART post-LN layers and none. Their positions are learned tables, in which NeMo's fixed
ones are written; the first two rows of these tables are never used. The bias of the output layer is
`final_logits_bias`.

Encoder, decoder and output layer of these models share one embedding matrix. If NeMo's encoder has another matrix than
its decoder, the shared one has the rows of both, the decoder's first. The rows of the encoder get a bias that makes
their probability 0.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.export.ctranslate2_model import position_table
from nemo_distill.export.hugging_face_tokenizer import build_tokenizer
from nemo_distill.export.record import ExportRecord

UNUSED_POSITIONS = 2
TABLES = ("shared.weight", "embed_tokens.weight", "lm_head.weight")  # all are one matrix
IMPOSSIBLE = -1e9  # a logit whose probability is 0 in every precision


def write_model(model: Any, folder: Path, record: ExportRecord) -> None:
    """Writes a restored `MTEncDecModel` to `folder`, which `AutoModelForSeq2SeqLM` and `AutoTokenizer` read.

    Args:
        model: the model, in eval mode, on CPU.
        folder: must contain the tokenizers that the record names.
    """
    build_model(model, record).save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # which that library writes for their owner alone, whatever the umask
        shutil.copymode(folder / "config.json", weights)
    build_tokenizer(folder, record, source_offset(model)).save_pretrained(folder)


def source_offset(model: Any) -> int:
    """Returns what is added to the ids of source pieces: 0 if both sides share their embeddings."""
    encoder, decoder = (stack.embedding.token_embedding.weight for stack in (model.encoder, model.decoder))
    return 0 if encoder is decoder else len(decoder)


def build_model(model: Any, record: ExportRecord) -> Any:
    """Returns the Hugging Face model, in eval mode.

    Raises:
        ConfigurationError: if the output layer has other weights than the decoder's embeddings, which NeMo ties.
    """
    import transformers

    pre_ln = model.encoder.encoder.layers[0].pre_ln
    offset = source_offset(model)
    embeddings = model.decoder.embedding.token_embedding.weight
    if not torch.equal(embeddings, model.log_softmax.mlp.last_linear_layer.weight):
        raise ConfigurationError(
            [f"head: its weights differ from the decoder's embeddings; format={record.format} ties them."]
        )
    if offset:
        embeddings = torch.cat([embeddings, model.encoder.embedding.token_embedding.weight])
    kind = "MBart" if pre_ln else "Bart"
    config = getattr(transformers, f"{kind}Config")(**_config(model, record, len(embeddings)))
    exported = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    exported.generation_config = transformers.GenerationConfig(**_search(model, record))
    wanted = exported.state_dict()
    missing, unexpected = exported.load_state_dict(_weights(model, record, embeddings, wanted), strict=False)
    if missing or unexpected:
        raise ValueError(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    return exported


def _config(model: Any, record: ExportRecord, vocab_size: int) -> dict[str, Any]:
    sides: dict[str, int] = {}
    for side in ("encoder", "decoder"):
        layers = getattr(getattr(model, side), side).layers
        feed_forward = layers[0].second_sub_layer if side == "encoder" else layers[0].third_sub_layer
        sides |= {
            f"{side}_layers": len(layers),
            f"{side}_attention_heads": layers[0].first_sub_layer.num_attention_heads,
            f"{side}_ffn_dim": feed_forward.dense_in.out_features,
        }
    return {
        **sides,
        **_special_ids(record),
        "vocab_size": vocab_size,
        "d_model": model.encoder.hidden_size,
        "max_position_embeddings": record.target.positions,
        "activation_function": model.cfg.encoder.get("hidden_act", "relu"),
        "scale_embedding": False,
        "tie_word_embeddings": True,
        "forced_eos_token_id": None,
        "num_hidden_layers": sides["encoder_layers"],
    }


def _special_ids(record: ExportRecord) -> dict[str, int]:
    ids = record.target.special_ids
    return {
        "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"],
        "pad_token_id": ids["pad"],
        "decoder_start_token_id": ids["bos"],
    }


def _search(model: Any, record: ExportRecord) -> dict[str, Any]:
    """Returns the defaults of `generate`: the model's beam, no length penalty, all positions, and no unknown words."""
    beam_size = int(model.cfg.get("beam_size", 4))
    beam = {"num_beams": beam_size, "length_penalty": 0.0} if beam_size > 1 else {}
    ids, words = record.target.special_ids, range(record.target.pieces, model.decoder.vocab_size)
    never = sorted({ids["unk"], ids["pad"], *words} - {ids["eos"]})
    return {**_special_ids(record), **beam, "max_length": record.target.positions, "suppress_tokens": never}


def _weights(model: Any, record: ExportRecord, embeddings: Tensor, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    bias = model.log_softmax.mlp.last_linear_layer.bias
    impossible = bias.new_full((len(embeddings) - len(bias),), IMPOSSIBLE)
    weights = {
        "final_logits_bias": torch.cat([bias, impossible]).unsqueeze(0),
        **{name: embeddings for name in wanted if name.endswith(TABLES)},
    }
    for side in ("encoder", "decoder"):
        part = getattr(model, side)
        stack = getattr(part, side)
        where = f"model.{side}"
        table = position_table(part.embedding, record.target.positions)  # (P, D)
        weights[f"{where}.embed_positions.weight"] = nn.functional.pad(table, (0, 0, UNUSED_POSITIONS, 0))
        weights |= _named(f"{where}.layernorm_embedding", part.embedding.layer_norm)
        if stack.final_layer_norm is not None:
            weights |= _named(f"{where}.layer_norm", stack.final_layer_norm)
        for number, layer in enumerate(stack.layers):
            weights |= _layer(f"{where}.layers.{number}", layer, side == "decoder")
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _layer(where: str, layer: Any, is_decoder: bool) -> dict[str, Tensor]:
    weights = _attention(f"{where}.self_attn", layer.first_sub_layer, layer.layer_norm_1)
    if is_decoder:
        weights |= _attention(f"{where}.encoder_attn", layer.second_sub_layer, layer.layer_norm_2)
    feed_forward, norm = (
        (layer.third_sub_layer, layer.layer_norm_3) if is_decoder else (layer.second_sub_layer, layer.layer_norm_2)
    )
    return {
        **weights,
        **_named(f"{where}.fc1", feed_forward.dense_in),
        **_named(f"{where}.fc2", feed_forward.dense_out),
        **_named(f"{where}.final_layer_norm", norm),
    }


def _attention(where: str, attention: Any, norm: nn.LayerNorm) -> dict[str, Tensor]:
    return {
        **_named(f"{where}.q_proj", attention.query_net),
        **_named(f"{where}.k_proj", attention.key_net),
        **_named(f"{where}.v_proj", attention.value_net),
        **_named(f"{where}.out_proj", attention.out_projection),
        **_named(f"{where}_layer_norm", norm),
    }


def _named(where: str, module: Any) -> dict[str, Tensor]:
    return {f"{where}.weight": module.weight, f"{where}.bias": module.bias}
