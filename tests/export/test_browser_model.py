"""The graphs for transformers.js, run by onnxruntime, against NeMo's own forward pass and our search."""

import json

import onnx
import pytest
import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

from nemo_distill.decoding.browser_engine import BrowserEngine
from nemo_distill.decoding.engines import load_engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export.browser_model import write_model
from nemo_distill.export.export_model import export_record, write_tokenizers
from nemo_distill.export.settings import ExportSettings
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.restore import restore_for_inference
from tests.conftest import reversing_sentences
from tests.export.conftest import GELU, LEARNED, PRE_LN, nemo_log_probs, random_ids, random_model

# encoder, decoder, whether both sides have one tokenizer and one matrix of embeddings
CASES = {
    "post_ln_gelu_learned": (GELU | LEARNED, GELU | LEARNED, True),
    "two_tokenizers": ({}, {"num_layers": 2}, False),
    "pre_ln_deep_and_shallow": (PRE_LN | {"num_layers": 3, "num_attention_heads": 4}, PRE_LN, True),
}


def export(path, folder, quantization="float32"):
    """Writes the model alone, without the page, and returns an engine that runs it."""
    folder.mkdir()
    archive = NemoArchive(path)
    settings = ExportSettings(path, folder, format="browser", quantization=quantization)
    record = export_record(archive, archive.config, settings, write_tokenizers(archive, folder), folder)
    write_model(restore_for_inference(MTEncDecModel, path), folder, record)
    return BrowserEngine(restore_for_inference(MTEncDecModel, path), folder, record)


def log_probs(engine, sources, targets):
    """Returns log-probabilities (W, T, V) after each of the targets (W, T), of one source or of as many."""
    ids, mask = engine._batch([[engine.special.bos, *source, engine.special.eos] for source in sources])
    if len(sources) > 1:  # as the export's own tokenizer pads
        ids = ids.masked_fill(~mask, engine.special.pad - engine.decoder.offset)
    state = engine.decoder.start(ids, mask)
    state.select(None, torch.zeros(len(targets), dtype=torch.long))
    prefixes = torch.tensor([[engine.special.bos, *target] for target in targets])
    logits = [engine.decoder.step(state, tokens.unsqueeze(0)).squeeze(0) for tokens in prefixes.T]
    return torch.stack(logits, dim=1).log_softmax(-1)


@pytest.fixture(scope="module", params=CASES)
def random_engine(request, tokenizer, english_tokenizer, tmp_path_factory):
    """The export of a random model."""
    encoder, decoder, shared = CASES[request.param]
    model = random_model(encoder, decoder, tokenizer, tokenizer if shared else english_tokenizer, shared)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_to(str(folder / "model.nemo"))
    return export(folder / "model.nemo", folder / "out")


@pytest.fixture(scope="module")
def exports(trained_path, tmp_path_factory):
    """Exports of a trained model, by the type of their weights."""
    folder = tmp_path_factory.mktemp("trained")
    return {name: export(trained_path, folder / name, name) for name in ("float32", "int8")}


def largest_difference(engine, sources, targets):
    """The largest difference of the targets' log-probabilities, their ends included, from NeMo's."""
    labels = [torch.tensor([*target, engine.special.eos]).unsqueeze(-1) for target in targets]
    found = [row.gather(-1, label).squeeze(-1) for row, label in zip(log_probs(engine, sources, targets), labels)]
    sources = sources * (len(targets) // len(sources))
    expected = [nemo_log_probs(engine.model, source, target) for source, target in zip(sources, targets)]
    return max((one - other).abs().max().item() for one, other in zip(found, expected))


@pytest.mark.parametrize("lengths", [[9], [1, 9, 20]])
def test_targets_of_one_source_or_of_a_padded_batch_have_nemos_log_probabilities(lengths, random_engine):
    sources = random_ids(random_engine.model.encoder_tokenizer, lengths, seed=1)
    targets = random_ids(random_engine.model.decoder_tokenizer, [12] * 3, seed=2)
    assert largest_difference(random_engine, sources, targets) < 1e-4


@pytest.mark.parametrize(("quantization", "same"), [("float32", 60), ("int8", 50)])
@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_trained_model_translates_with_the_same_words(beam_size, quantization, same, trained_path, exports):
    lines, settings = reversing_sentences(60, seed=900)[0], SearchSettings(beam_size=beam_size)
    found, expected = (
        [one.text for one in engine.translate(lines, settings)]
        for engine in (exports[quantization], load_engine("nemo_distill", [trained_path]))
    )
    assert sum(map(str.__eq__, found, expected)) >= same


def test_a_line_longer_than_the_export_reads_is_cut_and_says_so(tokenizer, tmp_path):
    decoder = LEARNED | {"max_sequence_length": 32}  # both sides of the export have as many positions
    random_model(LEARNED, decoder, tokenizer, tokenizer, True).save_to(str(tmp_path / "model.nemo"))
    engine = export(tmp_path / "model.nemo", tmp_path / "out")
    lines = [" ".join(["Hund"] * words) for words in (40, 1)]
    settings = SearchSettings(beam_size=1, max_delta=2)
    assert [found.source_cut for found in engine.translate(lines, settings)] == [True, False]


@pytest.mark.parametrize(("quantization", "said", "suffix"), [("float32", "fp32", ""), ("int8", "q8", "_quantized")])
def test_the_library_is_told_which_graphs_to_read(quantization, said, suffix, exports):
    folder = exports[quantization].folder
    assert json.loads((folder / "config.json").read_text())["transformers.js_config"] == {"dtype": said}
    names = {f"{name}{suffix}.onnx" for name in ("encoder_model", "decoder_model_merged")}
    assert {file.name for file in (folder / "onnx").iterdir()} == names


def test_in_int8_no_matrix_but_that_of_positions_stays_as_it_was(exports):
    engine = exports["int8"]
    for path in (engine.folder / "onnx").iterdir():
        tensors = onnx.load(path).graph.initializer
        floats = [tuple(one.dims) for one in tensors if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) == 2]
        pieces = engine.model.decoder_tokenizer.vocab_size
        assert sorted(floats) == sorted([(64, 32), (pieces, 1)])  # positions, scales of embeddings
