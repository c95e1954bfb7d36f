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


def exported_graphs(model, folder):
    model.save_to(str(folder / "model.nemo"))
    export_model(ExportSettings(folder / "model.nemo", folder / "exported", format="onnx"))
    return {
        graph: onnxruntime.InferenceSession(
            str(folder / "exported" / f"{graph}.onnx"), providers=["CPUExecutionProvider"]
        )
        for graph in ("encoder", "decoder", "classifier")
    }


def states_of(model):
    """How many states the decoder hands on: the embeddings, the layers and the final norm, if there is one."""
    return 1 + len(model.decoder.decoder.layers) + (model.decoder.decoder.final_layer_norm is not None)


@pytest.mark.parametrize("name", CASES)
def test_the_graphs_compute_what_nemo_computes(name, tokenizer, tmp_path):
    model = random_model(CASES[name], CASES[name], tokenizer, tokenizer, True)
    graphs = exported_graphs(model, tmp_path)
    src, src_mask, tgt = random_batch(model.encoder_tokenizer.vocab_size)
    (states,) = graphs["encoder"].run(None, {"input_ids": src.numpy(), "encoder_mask": src_mask.numpy()})
    real = src_mask.bool()
    expected = model.encoder(input_ids=src, encoder_mask=src_mask)
    torch.testing.assert_close(torch.from_numpy(states)[real], expected[real], atol=1e-4, rtol=1e-5)
    log_probs = decode_by_onnx(graphs, states, src_mask, tgt, states_of(model))
    expected = model(src, src_mask, tgt, torch.ones_like(tgt))
    torch.testing.assert_close(torch.from_numpy(log_probs), expected, atol=1e-4, rtol=1e-5)


def greedy_by_onnx(graphs, src, src_mask, special, num_states):
    """Translations of a padded batch (B, S), each up to its end; a row that has ended reads padding, masked."""
    (states,) = graphs["encoder"].run(None, {"input_ids": src.numpy(), "encoder_mask": src_mask.numpy()})
    ids = np.full((len(src), 1), special.bos_id)
    mask, ended = np.ones((len(src), 1), np.float32), np.zeros(len(src), bool)
    mems = np.zeros((len(src), num_states, 0, states.shape[-1]), np.float32)
    for _ in range(TARGET_LENGTH):
        inputs = {"input_ids": ids, "decoder_mask": mask, "encoder_embeddings": states, "encoder_mask": src_mask.numpy(), "decoder_mems": mems}  # fmt: skip
        (mems,) = graphs["decoder"].run(None, inputs)
        (log_probs,) = graphs["classifier"].run(None, {"hidden_states": mems[:, -1, -1:]})
        following = np.where(ended, special.pad_id, log_probs[:, -1].argmax(-1))
        mask = np.concatenate([mask, ~ended[:, None]], axis=1).astype(np.float32)
        ended |= following == special.eos_id
        ids = np.concatenate([ids, following[:, None]], axis=1)
    return [row[1:][mask_of_row[1:].astype(bool)].tolist() for row, mask_of_row in zip(ids, mask)]


def greedy_by_nemo(model, source):
    """The translation of one unpadded source (S,), from the whole prefix at every step."""
    src, tgt = source[None], torch.tensor([[model.decoder_tokenizer.bos_id]])
    for _ in range(TARGET_LENGTH):
        following = model(src, torch.ones_like(src), tgt, torch.ones_like(tgt))[:, -1].argmax(-1)
        tgt = torch.cat([tgt, following[None]], dim=1)
        if following.item() == model.decoder_tokenizer.eos_id:
            break
    return tgt[0, 1:].tolist()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_graphs_translate_padded_batches_as_nemo_does_sentence_by_sentence(
    name, shared, tokenizer, english_tokenizer, tmp_path
):
    """Of models that end some sentences early, with one tokenizer and one matrix of embeddings, or with two."""
    model = random_model(CASES[name], CASES[name], tokenizer, tokenizer if shared else english_tokenizer, shared)
    src, src_mask, tgt = random_batch(
        min(sides.vocab_size for sides in (model.encoder_tokenizer, model.decoder_tokenizer))
    )
    src = src.masked_fill(src_mask == 0, model.encoder_tokenizer.pad_id)
    step = model(src, src_mask, tgt, torch.ones_like(tgt)).std() / 8
    for _ in range(40):  # until some sentences end, and not all at once
        expected = [greedy_by_nemo(model, row[mask.bool()]) for row, mask in zip(src, src_mask)]
        if len(set(map(len, expected))) > 1:
            break
        model.log_softmax.mlp.layer0.bias[model.decoder_tokenizer.eos_id] += step
    assert len(set(map(len, expected))) > 1
    found = greedy_by_onnx(exported_graphs(model, tmp_path), src, src_mask, model.decoder_tokenizer, states_of(model))
    assert found == expected


def test_an_encoder_that_reads_to_the_right_alone_is_exported_as_it_is(tokenizer, tmp_path):
    model = random_model({"mask_future": True}, {}, tokenizer, tokenizer, True)
    src, src_mask, _ = random_batch(model.encoder_tokenizer.vocab_size)
    graph = exported_graphs(model, tmp_path)["encoder"]
    (states,) = graph.run(None, {"input_ids": src.numpy(), "encoder_mask": src_mask.numpy()})
    real = src_mask.bool()
    expected = model.encoder(input_ids=src, encoder_mask=src_mask)
    torch.testing.assert_close(torch.from_numpy(states)[real], expected[real], atol=1e-4, rtol=1e-5)
