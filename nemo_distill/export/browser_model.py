"""Writes a model for transformers.js: a Hugging Face folder with two ONNX graphs in place of the weights.

`encoder_model.onnx`         input_ids (B, S), attention_mask (B, S) -> last_hidden_state (B, S, 2 N D)
`decoder_model_merged.onnx`  input_ids (B, 1), encoder_hidden_states (B, S, 2 N D), encoder_attention_mask (B, S),
                             past_key_values.<layer>.decoder.key and .value (B, H, P, D / H)
                             -> logits (B, 1, V), present.<layer>.decoder.key and .value (B, H, P + 1, D / H)

The decoder has N layers and H heads, and P tokens precede the one that a step reads. Ids and masks are int64, all
other tensors are float32. The names are those that transformers.js looks for. What it hands on as hidden states are
the keys and values of cross-attention, layer by layer. They are the same in all steps, so the encoder's graph computes
them. The decoder's graph then is the same in the first step and in the others.

int8 has a scale for each row of the embeddings and for each output of a matrix. The inputs of matrices get theirs when
the graph runs. All else is float32.
"""

import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nemo_distill.export.hugging_face_model import UNUSED_POSITIONS, build_model, source_offset
from nemo_distill.export.hugging_face_tokenizer import build_tokenizer
from nemo_distill.export.record import ExportRecord

FOLDER = "model"
SUFFIXES = {"float32": "", "int8": "_quantized"}  # of the files' names, by the type of the weights
DTYPES = {"float32": "fp32", "int8": "q8"}  # transformers.js's names for these types
GRAPHS = ("encoder_model", "decoder_model_merged")
EXAMPLE_SIZES = (2, 7, 5)  # B, S and P; different, so that none is taken for another or for a constant


def write_model(model: Any, folder: Path, record: ExportRecord) -> None:
    """Writes a restored `MTEncDecModel` to `folder / FOLDER`.

    Args:
        model: the model, in eval mode, on CPU.
        folder: must contain the tokenizers that the record names.
        record: the record of the export.
    """
    target, offset = folder / FOLDER, source_offset(model)
    (target / "onnx").mkdir(parents=True)
    exported = build_model(model, record)
    exported.config.update({"transformers.js_config": {"dtype": DTYPES[record.quantization]}})
    exported.config.save_pretrained(target)
    exported.generation_config.update(num_beams=1, length_penalty=1.0)  # transformers.js has no beam search
    exported.generation_config.save_pretrained(target)
    build_tokenizer(folder, record, offset).save_pretrained(target)
    for name, graph in zip(GRAPHS, _graphs(exported, offset, record.quantization)):
        path = target / "onnx" / f"{name}{SUFFIXES[record.quantization]}.onnx"
        _export(graph.eval(), path)
        if record.quantization == "int8":
            _quantize(path)


def _graphs(model: Any, offset: int, quantization: str) -> tuple["EncoderGraph", "DecoderGraph"]:
    """Returns the graphs of a Hugging Face model; see `source_offset`."""
    embeddings = model.get_input_embeddings().weight  # (V, D)
    target_rows = embeddings[:offset] if offset else embeddings
    make_rows = QuantizedRows if quantization == "int8" else nn.Embedding.from_pretrained
    encoder = EncoderGraph(model, make_rows(embeddings[offset:]), offset)
    return encoder, DecoderGraph(model, make_rows(target_rows), target_rows)


class QuantizedRows(nn.Module):
    """An embedding (V, D) in 8 bits, with a scale for each row."""

    def __init__(self, weight: Tensor):
        super().__init__()
        scales = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127  # (V, 1)
        self.register_buffer("rows", (weight / scales).round().to(torch.int8))
        self.register_buffer("scales", scales)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns the embeddings (B, T, D) of ids (B, T)."""
        return self.rows[ids].float() * self.scales[ids]


class _Graph(nn.Module):
    """What both graphs have in common: layers of mBART, which is pre-LN, or of BART, which is post-LN."""

    def __init__(self, model: Any, stack: Any, rows: nn.Module):
        super().__init__()
        self.stack = stack
        self.rows = rows
        self.pre_ln = model.config.model_type == "mbart"
        self.positions = nn.Parameter(stack.embed_positions.weight[UNUSED_POSITIONS:])  # (P, D)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self.stack.layernorm_embedding(self.rows(ids) + positions)  # (B, T, D)

    def residual(self, states: Tensor, norm: nn.Module, inner: Any) -> Tensor:
        return states + inner(norm(states)) if self.pre_ln else norm(states + inner(states))

    def feed_forward(self, layer: Any, states: Tensor) -> Tensor:
        return self.residual(states, layer.final_layer_norm, lambda x: layer.fc2(layer.activation_fn(layer.fc1(x))))

    def finished(self, states: Tensor) -> Tensor:
        return self.stack.layer_norm(states) if self.pre_ln else states


class EncoderGraph(_Graph):
    """The encoder, and the projections of its states for the decoder's cross-attention."""

    inputs = ("input_ids", "attention_mask")
    outputs = ("last_hidden_state",)

    def __init__(self, model: Any, rows: nn.Module, offset: int):
        super().__init__(model, model.get_encoder(), rows)
        self.offset = offset
        cross = [layer.encoder_attn for layer in model.get_decoder().layers]
        self.projections = nn.ModuleList(part for one in cross for part in (one.k_proj, one.v_proj))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        ids = (input_ids - self.offset).clamp(min=0)  # the id of padding is the target's
        states = self.embed(ids, self.positions[: input_ids.shape[1]])
        bias = _bias(attention_mask)
        for layer in self.stack.layers:
            attend = partial(self._self_attention, layer.self_attn, bias)
            states = self.residual(states, layer.self_attn_layer_norm, attend)
            states = self.feed_forward(layer, states)
        states = self.finished(states)
        return torch.cat([projection(states) for projection in self.projections], dim=-1)  # (B, S, 2 N D)

    @staticmethod
    def _self_attention(attention: Any, bias: Tensor, states: Tensor) -> Tensor:
        heads = attention.num_heads
        keys, values = _split(attention.k_proj(states), heads), _split(attention.v_proj(states), heads)
        return _attend(attention, states, keys, values, bias)

    def example(self) -> tuple[Tensor, ...]:
        """Returns inputs of the graph."""
        batch, source, _ = EXAMPLE_SIZES
        ids = torch.full((batch, source), self.offset)
        return ids, torch.ones_like(ids)

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Returns the names of the sizes that differ between calls."""
        sizes = {0: "batch_size", 1: "encoder_sequence_length"}
        return dict.fromkeys((*self.inputs, *self.outputs), sizes)


class DecoderGraph(_Graph):
    """One step of the decoder, and the output layer."""

    def __init__(self, model: Any, rows: nn.Module, embeddings: Tensor):
        super().__init__(model, model.get_decoder(), rows)
        self.head = nn.Linear(*embeddings.T.shape)
        self.head.weight = nn.Parameter(embeddings)
        self.head.bias = nn.Parameter(model.final_logits_bias[0, : len(embeddings)])
        caches = [f"{layer}.decoder.{part}" for layer in range(len(self.stack.layers)) for part in ("key", "value")]
        self.inputs = (
            *("input_ids", "encoder_hidden_states", "encoder_attention_mask"),
            *(f"past_key_values.{name}" for name in caches),
        )
        self.outputs = ("logits", *(f"present.{name}" for name in caches))

    def forward(self, input_ids: Tensor, cross: Tensor, source_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        before = past[0].shape[2]
        states = self.embed(input_ids, self.positions[before : before + 1])
        bias = _bias(source_mask)
        crossed = cross.chunk(2 * len(self.stack.layers), dim=-1)  # each (B, S, D)
        present: list[Tensor] = []
        for number, layer in enumerate(self.stack.layers):
            pair = slice(2 * number, 2 * number + 2)
            attend = partial(self._self_attention, layer.self_attn, past[pair], present)
            states = self.residual(states, layer.self_attn_layer_norm, attend)
            attend = partial(self._cross_attention, layer.encoder_attn, crossed[pair], bias)
            states = self.residual(states, layer.encoder_attn_layer_norm, attend)
            states = self.feed_forward(layer, states)
        return self.head(self.finished(states)), *present

    @staticmethod
    def _self_attention(attention: Any, past: tuple[Tensor, ...], present: list[Tensor], states: Tensor) -> Tensor:
        new = [_split(part(states), attention.num_heads) for part in (attention.k_proj, attention.v_proj)]
        keys, values = (torch.cat(one, dim=2) for one in zip(past, new))  # (B, H, P + 1, D / H)
        present += [keys, values]
        return _attend(attention, states, keys, values)

    @staticmethod
    def _cross_attention(attention: Any, crossed: tuple[Tensor, ...], bias: Tensor, states: Tensor) -> Tensor:
        keys, values = (_split(one, attention.num_heads) for one in crossed)
        return _attend(attention, states, keys, values, bias)

    def example(self) -> tuple[Tensor, ...]:
        """Returns inputs of the graph."""
        batch, source, past = EXAMPLE_SIZES
        attention = self.stack.layers[0].self_attn
        caches = len(self.outputs) - 1
        width = self.positions.shape[1]
        cache = torch.rand(batch, attention.num_heads, past, width // attention.num_heads)
        mask = torch.ones(batch, source, dtype=torch.long)
        return mask[:, :1], torch.rand(batch, source, caches * width), mask, *[cache] * caches

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """Returns the names of the sizes that differ between calls."""
        sizes = {0: "batch_size"}
        source = dict.fromkeys(self.inputs[1:3], sizes | {1: "encoder_sequence_length"})
        past = dict.fromkeys(self.inputs[3:], sizes | {2: "past_decoder_sequence_length"})
        present = dict.fromkeys(self.outputs[1:], sizes | {2: "decoder_sequence_length"})
        return {"input_ids": sizes, "logits": sizes, **source, **past, **present}


def _bias(mask: Tensor) -> Tensor:
    """Returns what is added to scores (B, H, T, S): 0 at real tokens of a mask (B, S), elsewhere almost -infinity."""
    return (1 - mask[:, None, None].float()) * -1e9


def _split(states: Tensor, heads: int) -> Tensor:
    batch, length, width = states.shape
    return states.view(batch, length, heads, width // heads).transpose(1, 2)  # (B, H, T, D / H)


def _attend(attention: Any, states: Tensor, keys: Tensor, values: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Returns attention (B, T, D) of states (B, T, D) to keys and values (B, H, S, D / H)."""
    query = _split(attention.q_proj(states) * attention.scaling, attention.num_heads)
    weights = (query @ keys.transpose(2, 3) + bias).softmax(-1)  # (B, H, T, S)
    return attention.out_proj((weights @ values).transpose(1, 2).flatten(2))


def _export(graph: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that is used here is the older one, and says so
        torch.onnx.export(
            graph,
            graph.example(),
            str(path),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=graph.dynamic_axes(),
            dynamo=False,
        )


def _quantize(path: Path) -> None:
    """Quantizes the matrices of a graph, in place."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # onnxruntime logs a line for each matrix
    try:
        # Signed weights would saturate on processors without VNNI, and lose words there.
        quantize_dynamic(
            onnx.load(path), path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QUInt8
        )
    finally:
        logging.disable(logging.NOTSET)
