"""The ONNX graphs, run by onnxruntime, against NeMo's own forward pass."""

import numpy as np
import onnxruntime
import pytest
import torch

from nemo_distill.export.export_model import export_model
from nemo_distill.export.settings import ExportSettings
from tests.export.conftest import GELU, LEARNED, NO_FINAL_NORM, PRE_LN, random_model

CASES = {
    "post_ln": {},
    "pre_ln": PRE_LN | GELU | {"num_layers": 2},
    "pre_ln_without_final_norm": NO_FINAL_NORM | LEARNED,
}
BATCH, SOURCE_LENGTH, TARGET_LENGTH = 3, 11, 9


def random_batch(vocab_size):
    """Sources (B, S) of three lengths, their mask, and targets (B, T)."""
    generator = torch.Generator().manual_seed(0)
    src = torch.randint(4, vocab_size, (BATCH, SOURCE_LENGTH), generator=generator)
    tgt = torch.randint(4, vocab_size, (BATCH, TARGET_LENGTH), generator=generator)
    src_mask = (torch.arange(SOURCE_LENGTH) < torch.tensor([[11], [6], [2]])).float()
    return src, src_mask, tgt


def decode_by_onnx(graphs, states, src_mask, tgt, num_states):
    """Returns the log-probabilities (B, T, V) that the graphs give step by step."""
    mems = np.zeros((BATCH, num_states, 0, states.shape[-1]), np.float32)
    log_probs = []
    for length in range(1, TARGET_LENGTH + 1):
        inputs = {
            "input_ids": tgt[:, :length].numpy(),
            "decoder_mask": np.ones((BATCH, length), np.float32),
            "encoder_embeddings": states,
            "encoder_mask": src_mask.numpy(),
            "decoder_mems": mems,
        }
        (mems,) = graphs["decoder"].run(None, inputs)
        log_probs += graphs["classifier"].run(None, {"hidden_states": mems[:, -1, -1:]})
    return np.concatenate(log_probs, axis=1)


@pytest.mark.parametrize("name", CASES)
def test_the_graphs_compute_what_nemo_computes(name, tokenizer, tmp_path):
    model = random_model(CASES[name], CASES[name], tokenizer, tokenizer, True)
    model.save_to(str(tmp_path / "model.nemo"))
    folder = tmp_path / "exported"
    export_model(ExportSettings(tmp_path / "model.nemo", folder, format="onnx"))
    graphs = {
        graph: onnxruntime.InferenceSession(str(folder / f"{graph}.onnx"), providers=["CPUExecutionProvider"])
        for graph in ("encoder", "decoder", "classifier")
    }
    src, src_mask, tgt = random_batch(model.encoder_tokenizer.vocab_size)
    (states,) = graphs["encoder"].run(None, {"input_ids": src.numpy(), "encoder_mask": src_mask.numpy()})
    real = src_mask.bool()
    expected = model.encoder(input_ids=src, encoder_mask=src_mask)
    torch.testing.assert_close(torch.from_numpy(states)[real], expected[real], atol=1e-4, rtol=1e-5)
    num_states = 1 + len(model.decoder.decoder.layers) + (model.decoder.decoder.final_layer_norm is not None)
    log_probs = decode_by_onnx(graphs, states, src_mask, tgt, num_states)
    expected = model(src, src_mask, tgt, torch.ones_like(tgt))
    torch.testing.assert_close(torch.from_numpy(log_probs), expected, atol=1e-4, rtol=1e-5)
