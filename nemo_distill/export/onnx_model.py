"""Exports NeMo's translation Transformer as three ONNX graphs, using NeMo's own export.

NeMo's example inputs are replaced, because their ids may be outside the vocabulary, and because they contain the
states of one layer too many for a post-LN decoder.

`encoder.onnx`      input_ids (B, S), encoder_mask (B, S) -> last_hidden_states (B, S, D)
`decoder.onnx`      input_ids (B, T), decoder_mask (B, T), encoder_embeddings (B, S, D), encoder_mask (B, S),
                    decoder_mems (B, N, T - 1, D) -> last_hidden_states (B, N, T, D)
`classifier.onnx`   hidden_states (B, T, D) -> log_probs (B, T, V)

One call of the decoder is one step. It reads the last token of `input_ids`. Its output is the `decoder_mems` of the
next call; in the first call, `decoder_mems` is (B, N, 0, D). The classifier reads `last_hidden_states[:, -1, -1:]`. N
counts the embeddings, the layers and the final norm, if there is one. Ids are int64, all other tensors are float32.
Masks are 1 at real tokens. Sequences must not be longer than the model's `max_sequence_length`.
"""

import warnings
from pathlib import Path
from typing import Any

import torch

from nemo_distill.export.record import ExportRecord
from nemo_distill.nemo_files.host_fixes import classic_onnx_export

GRAPHS = ("encoder", "decoder", "classifier")
# Example sizes must differ from each other and from 1. Otherwise the exporter could take them as equal or constant.
BATCH, SOURCE_LENGTH, TARGET_LENGTH = 2, 7, 5


def write_model(model: Any, folder: Path, record: ExportRecord) -> None:
    """Writes the graphs of a restored `MTEncDecModel` (in eval mode, on CPU). The model cannot be used afterwards."""
    modules = (model.encoder, model.decoder, model.log_softmax)
    with classic_onnx_export(), warnings.catch_warnings():
        # The warnings are about branches that depend on the length, which only too long sequences would take.
        warnings.simplefilter("ignore")
        for name, module, example in zip(GRAPHS, modules, _examples(model)):
            module.export(str(folder / f"{name}.onnx"), input_example=example)


def _examples(model: Any) -> list[tuple[torch.Tensor, ...]]:
    """Returns example inputs of the three modules, in the order of their arguments."""
    stack = model.decoder.decoder
    num_states = 1 + len(stack.layers) + (stack.final_layer_norm is not None)
    source = torch.ones(BATCH, SOURCE_LENGTH, dtype=torch.long)
    target = torch.ones(BATCH, TARGET_LENGTH, dtype=torch.long)
    source_states = torch.rand(BATCH, SOURCE_LENGTH, model.encoder.hidden_size)
    target_states = torch.rand(BATCH, num_states, TARGET_LENGTH - 1, model.decoder.hidden_size)
    return [
        (source, source.float()),
        (target, target.float(), source_states, source.float(), target_states),
        (target_states[:, 0],),
    ]
