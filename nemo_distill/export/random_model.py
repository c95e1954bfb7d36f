"""Writes a model of any shape with random weights, as an export for CTranslate2: what it weighs, and how fast it is.

A shape can so be timed before anything is trained, without NeMo. The names of the weights are CTranslate2's.
"""

from collections.abc import Iterator, Mapping
from functools import reduce
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from nemo_distill.export.export_model import export_record, write_tokenizers
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import ExportSettings
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import SIDES, ends_with_norm, learned_positions, number_of_positions
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary

Shape = tuple[int, ...]
QUANTIZED = "weight"  # a matrix: a byte for each number, and a float32 for each row
RANDOM_NUMBERS = 1 << 20


def weight_shapes(config: Mapping[str, Any], pieces: Mapping[str, int]) -> dict[str, Shape]:
    """Returns the shapes of all weights of a model by their names in CTranslate2.

    Args:
        config: the config of the model, with `encoder` and `decoder` in NeMo's keys.
        pieces: the vocabulary size of each side.
    """
    found: dict[str, Shape] = {}
    for side in SIDES:
        stack = config[side]
        width, positions = stack["hidden_size"], number_of_positions(config, side)
        embeddings = f"{side}/embeddings" + ("/0" if side == "encoder" else "")
        found[f"{embeddings}/weight"] = (pieces[side], width)
        found[f"{side}/position_encodings/encodings"] = (positions, width)
        found.update(_norm(f"{side}/layernorm_embedding", width))
        if ends_with_norm(stack):
            found.update(_norm(f"{side}/layer_norm", width))
        for layer in range(stack["num_layers"]):
            found.update(_layer(f"{side}/layer/{layer}", width, stack["inner_size"], side == "decoder"))
    found.update(_linear("decoder/projection", pieces["decoder"], config["decoder"]["hidden_size"]))
    return found


def int8_bytes(config: Mapping[str, Any], pieces: Mapping[str, int]) -> int:
    """Returns the bytes of the weights of an export in int8. Equal matrices are stored once.

    Args:
        config: as in `weight_shapes`, with `shared_embeddings`.
        pieces: as in `weight_shapes`.
    """
    shapes = weight_shapes(config, pieces)
    del shapes["decoder/projection/weight"]  # the decoder's embeddings
    if config.get("shared_embeddings"):
        del shapes["encoder/embeddings/0/weight"]
    tables = [shapes.pop(f"{side}/position_encodings/encodings") for side in SIDES]
    if not learned_positions(config):
        tables = list(dict.fromkeys(tables))
    matrices = [shape for name, shape in shapes.items() if name.endswith(f"/{QUANTIZED}")]
    vectors = [shape for name, shape in shapes.items() if not name.endswith(f"/{QUANTIZED}")]
    return sum(prod(shape) + 4 * shape[0] for shape in matrices) + 4 * sum(map(prod, [*vectors, *tables]))


def write_random_model(config: Mapping[str, Any], archive: NemoArchive, folder: Path) -> ExportRecord:
    """Writes an int8 export with random weights into an empty folder and returns its record.

    Args:
        config: the config of the model, as in `weight_shapes`.
        archive: the `.nemo` whose tokenizers, languages and head the model has.
        folder: the folder.
    """
    from ctranslate2.specs import transformer_spec

    from nemo_distill.export.ctranslate2_model import empty_stack, write_spec

    names = write_tokenizers(archive, folder)
    pieces = {side: len(read_vocabulary(folder / name).pieces) for side, name in zip(SIDES, names)}
    whole = archive.config.copy()
    for key in (*SIDES, "shared_embeddings"):  # whole sections, without keys that only the archive's model has
        whole[key] = config[key]
    settings = ExportSettings(archive.path, folder, quantization="int8")
    record = export_record(archive, whole, settings, names, folder)
    spec = transformer_spec.TransformerSpec(
        empty_stack(transformer_spec.TransformerEncoderSpec, whole.encoder),
        empty_stack(transformer_spec.TransformerDecoderSpec, whole.decoder),
    )
    for stack in (spec.encoder, spec.decoder):
        stack.scale_embeddings = False
    for name, weight in _random_weights(weight_shapes(whole, pieces), bool(config["shared_embeddings"])):
        *parents, key = name.split("/")
        setattr(reduce(_part, parents, spec), key, weight)
    write_spec(spec, list(pieces.values()), folder, record)
    record.write(folder)
    return record


def _part(spec: Any, name: str) -> Any:
    return spec[int(name)] if name.isdigit() else getattr(spec, name)


def _random_weights(shapes: Mapping[str, Shape], shared: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the weights by their names. No two matrices are equal, because CTranslate2 would store them once."""
    numbers = np.random.default_rng(0).standard_normal(RANDOM_NUMBERS, dtype=np.float32) * np.float32(0.02)
    same_as = {"decoder/projection/weight": "decoder/embeddings/weight"}
    if shared:
        same_as["decoder/embeddings/weight"] = "encoder/embeddings/0/weight"
    tied: dict[str, np.ndarray] = {}
    for index, (name, shape) in enumerate(shapes.items()):
        if name in same_as:
            weight = tied[same_as[name]].copy()  # CTranslate2 quantizes in place
        elif name.endswith(f"/{QUANTIZED}"):
            weight = np.resize(np.roll(numbers, 7 * index), shape)
        else:
            weight = np.full(shape, name.endswith("/gamma"), np.float32)
        if "/embeddings/" in name:
            tied[name] = weight.copy()
        yield name, weight


def _layer(name: str, width: int, inner: int, is_decoder: bool) -> Iterator[tuple[str, Shape]]:
    yield from _linear(f"{name}/self_attention/linear/0", 3 * width, width)
    yield from _linear(f"{name}/self_attention/linear/1", width, width)
    yield from _norm(f"{name}/self_attention/layer_norm", width)
    if is_decoder:
        for index, rows in enumerate((width, 2 * width, width)):
            yield from _linear(f"{name}/attention/linear/{index}", rows, width)
        yield from _norm(f"{name}/attention/layer_norm", width)
    yield from _linear(f"{name}/ffn/linear_0", inner, width)
    yield from _linear(f"{name}/ffn/linear_1", width, inner)
    yield from _norm(f"{name}/ffn/layer_norm", width)


def _linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}/weight", (rows, columns)
    yield f"{name}/bias", (rows,)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}/gamma", (width,)
    yield f"{name}/beta", (width,)
