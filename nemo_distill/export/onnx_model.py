"""NeMo's translation transformer as three ONNX graphs, through NeMo's own export.

NeMo's example inputs are replaced: their ids are of a vocabulary that the model may not have, and for a post-LN
decoder they hold the states of one layer too many.

`encoder.onnx`      input_ids (B, S), encoder_mask (B, S) -> last_hidden_states (B, S, D)
`decoder.onnx`      input_ids (B, T), decoder_mask (B, T), encoder_embeddings (B, S, D), encoder_mask (B, S),
                    decoder_mems (B, N, T - 1, D) -> last_hidden_states (B, N, T, D)
`classifier.onnx`   hidden_states (B, T, D) -> log_probs (B, T, V)

One call of the decoder is one step: it reads the last of `input_ids`, and what it returns is the next call's
`decoder_mems`, (B, N, 0, D) at first; the classifier reads `last_hidden_states[:, -1, -1:]`. N counts the embeddings,
the layers and the final norm, if there is one. Ids are int64, all else is float32; masks are 1 at real tokens. No
sequence may be longer than the model's `max_sequence_length`.
"""

import warnings
from pathlib import Path
from typing import Any

import torch

from nemo_distill.nemo_files.host_fixes import classic_onnx_export

GRAPHS = ("encoder", "decoder", "classifier")
# Any sizes will do, if no two are equal and none is 1: the exporter could take them for one, or for constant.
BATCH, SOURCE_LENGTH, TARGET_LENGTH = 2, 7, 5


def write_graphs(model: Any, folder: Path) -> None:
    """Writes the graphs of a restored `MTEncDecModel`, in eval mode, on the CPU; it is spoilt for any other use."""
    modules = (model.encoder, model.decoder, model.log_softmax)
    with classic_onnx_export(), warnings.catch_warnings():
        # Of branches that are fixed: those that only a sequence beyond the table of positions takes.
        warnings.simplefilter("ignore")
        for name, module, example in zip(GRAPHS, modules, _examples(model)):
            module.export(str(folder / f"{name}.onnx"), input_example=example)


def _examples(model: Any) -> list[tuple[torch.Tensor, ...]]:
    """Inputs of the three modules, in the order of their arguments."""
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
