"""Translates with the graphs of a page, in Python, so that what they cost can be measured.

The search is ours, which the page's script follows. A sentence has a batch of its own, as in the page: in int8, its
result would depend on the others of a batch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from torch import Tensor

from nemo_distill.decoding.nemo_engines import CachedEngine
from nemo_distill.export.browser_model import FOLDER, GRAPHS, SUFFIXES
from nemo_distill.export.hugging_face_model import source_offset
from nemo_distill.export.record import ExportRecord

Arrays = dict[str, np.ndarray]


class BrowserEngine(CachedEngine):
    """Our search over the graphs of an export with format=browser.

    Args:
        model: the model that was exported, of which the tokenizers are used.
        folder: the export.
        record: its record.
    """

    def __init__(self, model: MTEncDecModel, folder: Path, record: ExportRecord):
        super().__init__([model], tokens_per_batch=1)
        self.folder = folder / FOLDER
        self.decoder = GraphDecoder(self.folder / "onnx", record.quantization, source_offset(model))
        self.max_source_length, self.max_target_length = record.source.positions, record.target.positions


@dataclass
class GraphState:
    """The state of one sentence with W hypotheses of t tokens.

    Args:
        source: what the encoder's graph gives to the decoder's, and the mask (1, S).
        past: keys and values, each (W, H, t, d), by their names.
    """

    source: Arrays
    past: Arrays

    def select(self, sentences: Tensor | None, rows: Tensor) -> None:
        """Keeps hypotheses, in a new order; `sentences` can only be the one that there is."""
        self.past = {name: cache[rows.numpy()] for name, cache in self.past.items()}


class GraphDecoder:
    """The two graphs, as needed for search.

    Args:
        folder: has the graphs.
        quantization: the type of their weights.
        offset: what the ids of source pieces are greater by in the export.
    """

    def __init__(self, folder: Path, quantization: str, offset: int):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.offset = offset
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(folder / f"{name}{SUFFIXES[quantization]}.onnx"), options)
            for name in GRAPHS
        )

    def start(self, src_ids: Tensor, src_mask: Tensor) -> GraphState:
        """Encodes one sentence: `src_ids` and `src_mask` are (1, S)."""
        mask = src_mask.long().numpy()
        feeds = {"input_ids": (src_ids + self.offset).numpy(), "attention_mask": mask}
        (states,) = self.encoder.run(None, feeds)
        return GraphState({"encoder_hidden_states": states, "encoder_attention_mask": mask}, self._empty())

    def _empty(self) -> Arrays:
        caches: list[Any] = [one for one in self.decoder.get_inputs() if one.name.startswith("past_key_values.")]
        return {one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), np.float32) for one in caches}

    def step(self, state: GraphState, tokens: Tensor) -> Tensor:
        """Reads one token of each hypothesis (1, W), and returns the logits (1, W, V) of the next token."""
        feeds = {**state.source, **state.past, "input_ids": tokens.T.numpy()}
        logits, *present = self.decoder.run(None, feeds)
        state.past = dict(zip(state.past, present, strict=True))
        return torch.from_numpy(logits).transpose(0, 1)
