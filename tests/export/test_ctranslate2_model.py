"""An exported model against NeMo's own forward pass."""

import json

import ctranslate2
import pytest
import torch
from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

from nemo_distill.export.ctranslate2_model import name_ids, write_model
from nemo_distill.export.export_model import export_model
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import QUANTIZATIONS, ExportSettings
from nemo_distill.nemo_files.tokenizer_files import Vocabulary
from tests.export.conftest import GELU, LEARNED, NO_FINAL_NORM, PRE_LN, nemo_log_probs, random_ids, random_model

# encoder, decoder, the source's tokenizer, the target's, whether the embeddings are shared
CASES = {
    "post_ln": ({}, {}, "sentencepiece", "sentencepiece", True),
    "post_ln_gelu_learned": (GELU | LEARNED, GELU | LEARNED, "sentencepiece", "sentencepiece", False),
    "pre_ln_layers": (PRE_LN | {"num_layers": 3}, PRE_LN | {"num_layers": 2}, "sentencepiece", "english", False),
    "pre_ln_without_final_norm": (NO_FINAL_NORM | GELU, NO_FINAL_NORM | GELU, "yttm", "yttm", True),
    "sides_of_two_kinds": (
        PRE_LN | {"num_attention_heads": 4, "inner_size": 24},
        GELU | LEARNED,
        "sentencepiece",
        "yttm",
        False,
    ),
}


@pytest.fixture
def tokenizers(tokenizer, english_tokenizer, yttm_tokenizer):
    return {"sentencepiece": tokenizer, "english": english_tokenizer, "yttm": yttm_tokenizer}


def export(model, folder, **settings):
    path = folder / "model.nemo"
    model.save_to(str(path))
    output = folder / "exported"
    export_model(ExportSettings(path, output, **settings))
    return output


def vocabulary(folder, side):
    shared = folder / "shared_vocabulary.json"
    return json.loads((shared if shared.is_file() else folder / f"{side}_vocabulary.json").read_text())


def largest_difference(model, folder, sources, targets):
    """Of the log-probabilities of forced targets, all scored at once by CTranslate2 and one by one by NeMo."""
    translator = ctranslate2.Translator(str(folder), intra_threads=1)
    source_tokens, target_tokens = vocabulary(folder, "source"), vocabulary(folder, "target")
    scored = translator.score_batch(
        [[source_tokens[index] for index in ids] for ids in sources],
        [[target_tokens[index] for index in ids] for ids in targets],
    )
    differences = [
        (nemo_log_probs(model, source, target) - torch.tensor(result.log_probs)).abs().max().item()
        for source, target, result in zip(sources, targets, scored)
    ]
    return max(differences)


@pytest.mark.parametrize("name", CASES)
def test_forced_targets_have_nemos_log_probabilities(name, tokenizers, tmp_path):
    encoder, decoder, source, target, shared = CASES[name]
    model = random_model(encoder, decoder, tokenizers[source], tokenizers[target], shared)
    folder = export(model, tmp_path)
    sources = random_ids(model.encoder_tokenizer, [1, 9, 5, 20], seed=1)
    targets = random_ids(model.decoder_tokenizer, [7, 0, 12, 30], seed=2)
    assert largest_difference(model, folder, sources, targets) < 1e-4


def test_fixed_positions_go_on_as_far_as_asked(tokenizers, tmp_path):
    """NeMo computes those beyond the model's 64 when it needs them."""
    model = random_model({}, {}, tokenizers["sentencepiece"], tokenizers["sentencepiece"], True)
    folder = export(model, tmp_path, max_positions=100)
    sources, targets = (random_ids(model.encoder_tokenizer, [98], seed) for seed in (1, 2))
    assert largest_difference(model, folder, sources, targets) < 1e-4
    with pytest.raises(RuntimeError, match="No position encodings are defined"):
        largest_difference(model, folder, sources, random_ids(model.encoder_tokenizer, [100], seed=2))


def test_fixed_positions_are_those_of_the_model(tokenizers, tmp_path):
    """Training in bfloat16 rounds them."""
    model = random_model({}, {}, tokenizers["sentencepiece"], tokenizers["sentencepiece"], True)
    for part in (model.encoder, model.decoder):
        part.embedding.position_embedding.bfloat16().float()
    folder = export(model, tmp_path, max_positions=100)
    sources, targets = (random_ids(model.encoder_tokenizer, [98], seed) for seed in (1, 2))
    assert largest_difference(model, folder, sources, targets) < 1e-4


def test_a_projection_of_its_own_is_exported(tokenizers, tmp_path):
    """NeMo ties it to the decoder's embeddings; nothing here relies on that."""
    model = random_model({}, {}, tokenizers["sentencepiece"], tokenizers["sentencepiece"], True)
    folder = export(model, tmp_path)
    projection = model.log_softmax.mlp.layer0
    projection.weight = torch.nn.Parameter(projection.weight + torch.randn_like(projection.weight))
    for name in ("model.bin", "config.json", "shared_vocabulary.json"):
        (folder / name).unlink()
    write_model(model, folder, ExportRecord.read(folder))
    assert (
        largest_difference(model, folder, *(random_ids(model.encoder_tokenizer, [5], seed) for seed in (1, 2))) < 1e-4
    )


def test_a_model_outlives_its_export(tokenizers, tmp_path):
    """CTranslate2 quantizes in place."""
    model = random_model({}, {}, tokenizers["sentencepiece"], tokenizers["sentencepiece"], True)
    folder = export(model, tmp_path, quantization="int8")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name in ("model.bin", "config.json", "shared_vocabulary.json"):
        (folder / name).unlink()
    write_model(model, folder, ExportRecord.read(folder))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_quantizations_are_ctranslate2s():
    assert set(QUANTIZATIONS) == set(ACCEPTED_MODEL_TYPES)


@pytest.mark.parametrize("quantization", ["float32", "float16", "int8"])
def test_a_quantization_loads_and_scores_nearly_the_same(quantization, tokenizers, tmp_path):
    model = random_model({}, {}, tokenizers["sentencepiece"], tokenizers["sentencepiece"], True)
    folder = export(model, tmp_path, quantization=quantization)
    sources, targets = (random_ids(model.encoder_tokenizer, [5, 9], seed) for seed in (1, 2))
    difference = largest_difference(model, folder, sources, targets)
    assert difference < (1e-4 if quantization == "float32" else 1.0)
    assert difference > 1e-6 or quantization == "float32"


def test_the_source_gets_its_special_tokens_from_ctranslate2(tokenizers, tmp_path):
    model = random_model({}, {}, tokenizers["sentencepiece"], tokenizers["yttm"], False)
    config = json.loads((export(model, tmp_path) / "config.json").read_text())
    assert config["add_source_bos"] and config["add_source_eos"]
    assert [config[f"{name}_token"] for name in ("unk", "bos", "eos")] == ["<UNK>", "<BOS>", "<EOS>"]
    assert config["decoder_start_token"] == "<BOS>"
    assert vocabulary(tmp_path / "exported", "source")[:3] == ["<UNK>", "<BOS>", "<EOS>"]


SPECIAL = {"pad": 3, "unk": 0, "bos": 1, "eos": 2}
PLAIN = Vocabulary("sentencepiece", ("<unk>", "<s>", "</s>", "<pad>", "a", "b"), SPECIAL)


def test_pieces_keep_their_names():
    source, target, special_tokens = name_ids(PLAIN, PLAIN, 6, 6)
    assert source == target == PLAIN.pieces
    assert special_tokens == {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}


def test_special_ids_are_called_the_same_on_both_sides():
    yttm = Vocabulary("yttm", ("<PAD>", "<UNK>", "<BOS>", "<EOS>", "a"), {"pad": 0, "unk": 1, "bos": 2, "eos": 3})
    assert name_ids(PLAIN, yttm, 6, 5)[0] == ("<UNK>", "<BOS>", "<EOS>", "<pad>", "a", "b")


def test_a_vocabulary_that_is_filled_up_gets_unique_names():
    _, target, _ = name_ids(PLAIN, PLAIN, 8, 8)
    assert target[6:] == ("<unused_6>", "<unused_7>")
    assert len(set(target)) == 8


def test_a_piece_that_reads_like_a_special_token_is_renamed():
    source = Vocabulary("sentencepiece", ("?", "<s>", "</s>", "<pad>", "<unk>", "<unk>_"), SPECIAL)
    assert name_ids(source, PLAIN, 6, 6)[0] == ("<unk>", "<s>", "</s>", "<pad>", "<unk>_", "<unk>__")
