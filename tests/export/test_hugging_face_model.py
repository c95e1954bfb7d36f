"""An export for Hugging Face against NeMo's own forward pass, and its tokenizer against the model's."""

import random

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from nemo_distill.decoding.converted_engine import convert_folder
from nemo_distill.decoding.engines import load_engine
from nemo_distill.decoding.hugging_face_engine import HuggingFaceEngine
from nemo_distill.decoding.nemo_engines import CachedEngine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export.export_model import export_model
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import ExportSettings
from nemo_distill.text.token_ids import load_tokenizer
from tests.conftest import WORDS, reversing_sentences, train_sentencepiece
from tests.export.conftest import GELU, LEARNED, PRE_LN, nemo_log_probs, random_ids, random_model

# encoder, decoder, the source's tokenizer, the target's, whether the embeddings are shared
CASES = {
    "post_ln": ({}, {}, "sentencepiece", "sentencepiece", True),
    "post_ln_gelu_learned": (GELU | LEARNED, GELU | LEARNED, "sentencepiece", "sentencepiece", False),
    "deep_and_shallow": (PRE_LN | {"num_layers": 4}, PRE_LN, "sentencepiece", "sentencepiece", True),
    "two_tokenizers": (PRE_LN | {"num_layers": 3}, PRE_LN | {"num_layers": 2}, "sentencepiece", "english", False),
    "one_side_learned": (
        PRE_LN | {"num_attention_heads": 4, "inner_size": 24}, PRE_LN | LEARNED, "yttm", "yttm", True
    ),
    "two_libraries": (PRE_LN, PRE_LN, "yttm", "unigram", False),
}  # fmt: skip
ODD_LINES = [
    "der Hund",
    "  der   Hund sieht  ",
    "der\tHund",
    "DER Hund, sieht: (das) Häuschen!",
    "ﬁn ½ Ⅷ　voll",
    "漢字 Hund 字漢漢",
    "e\u0301 é",
    "a▁b",
    "…",
    "0123456789",
]


@pytest.fixture(scope="session")
def unigram_tokenizer(corpus, tokenizer):
    return train_sentencepiece(corpus / "unigram", corpus / "both.txt", 40, model_type="unigram")


@pytest.fixture(scope="session")
def byte_tokenizer(corpus, tokenizer):
    options = {"byte_fallback": True, "user_defined_symbols": ["<lang>"]}
    return train_sentencepiece(corpus / "bytes", corpus / "both.txt", 310, **options)


@pytest.fixture(scope="session")
def tokenizers(tokenizer, english_tokenizer, yttm_tokenizer, unigram_tokenizer, byte_tokenizer):
    return {
        "sentencepiece": tokenizer,
        "english": english_tokenizer,
        "yttm": yttm_tokenizer,
        "unigram": unigram_tokenizer,
        "bytes": byte_tokenizer,
    }


def export(model, folder, **settings):
    path = folder / "model.nemo"
    model.save_to(str(path))
    export_model(ExportSettings(path, folder / "exported", format="hugging_face", **settings))
    return folder / "exported"


def made(name, tokenizers):
    encoder, decoder, source, target, shared = CASES[name]
    return random_model(encoder, decoder, tokenizers[source], tokenizers[target], shared)


def largest_difference(model, folder, sources, targets):
    """Of the log-probabilities of forced targets, by Hugging Face's model and by NeMo."""
    exported = AutoModelForSeq2SeqLM.from_pretrained(folder)
    shared = exported.config.vocab_size == model.decoder.embedding.token_embedding.num_embeddings
    offset = 0 if shared else model.decoder.embedding.token_embedding.num_embeddings
    tokens = model.encoder_tokenizer, model.decoder_tokenizer
    differences = []
    for source, target in zip(sources, targets):
        src = torch.tensor([[tokens[0].bos_id, *source, tokens[0].eos_id]]) + offset
        tgt = torch.tensor([[tokens[1].bos_id, *target]])
        labels = torch.tensor([*target, tokens[1].eos_id])
        with torch.inference_mode():
            log_probs = exported(input_ids=src, decoder_input_ids=tgt).logits.log_softmax(-1)[0]  # (T, V)
        found = log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)  # (T,)
        differences.append((nemo_log_probs(model, source, target) - found).abs().max().item())
    return max(differences)


@pytest.mark.parametrize("name", CASES)
def test_forced_targets_have_nemos_log_probabilities(name, tokenizers, tmp_path):
    model = made(name, tokenizers)
    folder = export(model, tmp_path)
    sources = random_ids(model.encoder_tokenizer, [1, 9, 5, 20], seed=1)
    targets = random_ids(model.decoder_tokenizer, [7, 0, 12, 30], seed=2)
    assert largest_difference(model, folder, sources, targets) < 1e-4


def test_fixed_positions_go_on_as_far_as_asked(tokenizers, tmp_path):
    model = made("deep_and_shallow", tokenizers)
    folder = export(model, tmp_path, max_positions=100)
    sources, targets = (random_ids(model.encoder_tokenizer, [98], seed) for seed in (1, 2))
    assert largest_difference(model, folder, sources, targets) < 1e-4


def hypotheses(engine, lines, beam_size):
    settings = SearchSettings(beam_size=beam_size, length_penalty=0.0, max_delta=10)
    return [found.hypotheses[0] for found in engine.translate(lines, settings)]


def made_to_end(model, lines):
    """Makes the end of sentence more likely until greedy search ends half of the sentences."""
    for _ in range(60):
        if sum(found.finished for found in hypotheses(CachedEngine([model]), lines, 1)) >= len(lines) // 2:
            return model
        model.log_softmax.mlp.last_linear_layer.bias[model.decoder_tokenizer.eos_id] += 0.25
    raise AssertionError("no sentence ends")


@pytest.mark.parametrize("name", ["post_ln", "deep_and_shallow", "two_tokenizers", "one_side_learned"])
def test_greedy_search_finds_what_ours_finds_and_a_beam_nothing_worse(name, tokenizers, tmp_path):
    """With random weights. Hugging Face's beam goes on where a finished hypothesis has left it, and can find better."""
    lines = reversing_sentences(20, seed=3)[0]
    model = made_to_end(made(name, tokenizers), lines)
    exported = HuggingFaceEngine(export(model, tmp_path))
    expected, found = (hypotheses(engine, lines, 1) for engine in (CachedEngine([model]), exported))
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-3)
    expected, found = (hypotheses(engine, lines, 4) for engine in (CachedEngine([model]), exported))
    both = [pair for pair in zip(expected, found) if pair[0].finished and pair[1].finished]
    assert len(both) >= 5
    assert all(ours.score <= theirs.score + 1e-3 for ours, theirs in both)


def test_an_export_can_be_converted_to_ctranslate2_as_any_folder(tokenizers, tmp_path):
    lines = reversing_sentences(20, seed=3)[0]
    folder = export(made_to_end(made("deep_and_shallow", tokenizers), lines), tmp_path)
    expected, found = (hypotheses(load_engine(name, [folder]), lines, 1) for name in ("hugging_face", "ctranslate2"))
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-3)
    convert_folder(folder, tmp_path / "converted", "int8")
    assert ExportRecord.read(tmp_path / "converted").quantization == "int8"


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("name", ["deep_and_shallow", "two_tokenizers"])
def test_the_unknown_word_is_generated_only_if_it_is_allowed(name, beam_size, tokenizers, tmp_path):
    model = made(name, tokenizers)
    bias = model.log_softmax.mlp.last_linear_layer.bias
    bias[model.decoder_tokenizer.unk_id], bias[model.decoder_tokenizer.pad_id] = 500.0, 1000.0
    exported = load_engine("hugging_face", [export(model, tmp_path)])
    for allowed in (False, True):
        settings = SearchSettings(beam_size=beam_size, length_penalty=0.0, max_delta=3, allow_unknown=allowed)
        found, expected = (engine.translate(["der Hund"], settings)[0] for engine in (exported, CachedEngine([model])))
        assert ("\u2047" in found.text) == allowed
        assert found.text == expected.text.strip() or not allowed
        assert found.hypotheses[0].score == pytest.approx(expected.hypotheses[0].score, abs=1e-3) or not allowed


@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_trained_model_translates_with_the_same_words(beam_size, trained_path, tmp_path):
    output = tmp_path / "exported"
    export_model(ExportSettings(trained_path, output, format="hugging_face"))
    lines = reversing_sentences(40, seed=900)[0]
    settings = SearchSettings(beam_size=beam_size, length_penalty=0.0)
    found, expected = (
        [one.text for one in load_engine(name, [path]).translate(lines, settings)]
        for name, path in (("hugging_face", output), ("nemo_distill", trained_path))
    )
    assert found == expected


def test_transformers_alone_translates(trained_path, tmp_path):
    """As its documentation shows, without a word about the folder's making."""
    output = tmp_path / "exported"
    export_model(ExportSettings(trained_path, output, format="hugging_face"))
    tokenizer, model = AutoTokenizer.from_pretrained(output), AutoModelForSeq2SeqLM.from_pretrained(output)
    generated = model.generate(**tokenizer(["der Hund sieht rot", "Mann"], padding=True, return_tensors="pt"))
    assert tokenizer.batch_decode(generated, skip_special_tokens=True) == ["red sees dog the", "man"]
    assert {file.name for file in output.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert ExportRecord.read(output).versions.keys() == {
        "nemo_distill", "nemo_toolkit", "torch", "transformers", "tokenizers"
    }  # fmt: skip


def lines_to_split():
    """Odd lines, and random strings of the letters that tokenizers know and some that they do not."""
    generator = random.Random(0)
    letters = [*" ".join(WORDS), *"äöü 字!"]
    return ODD_LINES + ["".join(generator.choices(letters, k=generator.randint(1, 30))) for _ in range(300)]


@pytest.mark.parametrize("name", ["sentencepiece", "english", "unigram", "yttm", "bytes"])
def test_text_is_split_as_the_models_tokenizer_splits_it_and_joined_again(name, tokenizers, tmp_path):
    model = random_model(PRE_LN, PRE_LN, tokenizers[name], tokenizers[name], True)
    tokenizer = AutoTokenizer.from_pretrained(export(model, tmp_path))
    own = load_tokenizer(tokenizers[name], "yttm" if name == "yttm" else "sentencepiece")
    lines = lines_to_split()
    expected = own.encode(lines)
    ends = [model.encoder_tokenizer.bos_id], [model.encoder_tokenizer.eos_id]
    for line, ids, found in zip(lines, expected, tokenizer(lines)["input_ids"]):
        assert found == ends[0] + ids + ends[1], line
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert text.strip() == own.decode(ids).strip(), line


@pytest.mark.parametrize("shared", [True, False])
def test_special_tokens_in_a_text_are_text(shared, tokenizer, tmp_path):
    engine = load_engine("hugging_face", [export(random_model({}, {}, tokenizer, tokenizer, shared), tmp_path)])
    pieces = engine.tokenizer.convert_ids_to_tokens(engine.read("der <s>Hund</s> und")[0])
    assert pieces[0] == "<s>" and pieces[-1] == "</s>" and not {"<s>", "</s>"} & {*pieces[1:-1]}


def test_two_tokenizers_become_one_with_the_targets_ids_first(tokenizers, tmp_path):
    model = made("two_libraries", tokenizers)
    tokenizer = AutoTokenizer.from_pretrained(export(model, tmp_path))
    offset = model.decoder.embedding.token_embedding.num_embeddings
    source = load_tokenizer(tokenizers["yttm"], "yttm")
    target = load_tokenizer(tokenizers["unigram"], "sentencepiece")
    special = model.encoder_tokenizer
    for line in lines_to_split():
        (ids,) = source.encode([line])
        expected = [offset + index for index in (special.bos_id, *ids, special.eos_id)]
        assert tokenizer(line)["input_ids"] == expected, line
        (ids,) = target.encode([line])
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == target.decode(ids).strip(), line
