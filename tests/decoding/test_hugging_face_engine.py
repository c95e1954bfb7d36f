import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file

from nemo_distill.config.errors import ConfigurationError, NotFiniteError
from nemo_distill.decoding.engines import engine_problems, load_engine, search_problems
from nemo_distill.decoding.hugging_face_engine import HuggingFaceEngine
from nemo_distill.decoding.hugging_face_text import FolderText
from nemo_distill.decoding.settings import SearchSettings
from tests.conftest import WORDS
from tests.hugging_face_folders import FAMILIES, train_pieces
from tests.hugging_face_folders import write_folder as write_family

LINES = ["der Hund sieht rot", "", "und", "der Mann und der Hund sieht Haus", "rot Haus", "   ", "Mann und Hund"]
GREEDY = SearchSettings(beam_size=1, length_penalty=0.0, max_delta=5)
BEAM = SearchSettings(beam_size=4, n_best=4, length_penalty=1.0, length_penalty_form="power", max_delta=5)
SAMPLES = SearchSettings(method="sample", n_best=3, length_penalty=0.0, max_delta=5, temperature=0.7)


def write_model(folder, around="$A </s>"):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS, *WORDS.values(), "!"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single=around, special_tokens=[("</s>", 1), ("!", 17)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=8
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(vocabulary), d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32,
        decoder_ffn_dim=32, encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=32,
        pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None, init_std=0.7,
    )  # fmt: skip
    model = MarianMTModel(config)
    model.generation_config.bad_words_ids = [[0], [2]]  # OPUS-MT's forbid the padding token likewise
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("hugging_face"))


@pytest.fixture(scope="module")
def engine(folder):
    return load_engine("hugging_face", [folder])


@pytest.mark.parametrize("settings", [GREEDY, BEAM, SAMPLES], ids=["greedy", "beam", "sample"])
def test_a_translation_does_not_depend_on_the_lines_beside_it(engine, settings):
    together = engine.translate(LINES, settings)
    alone = [engine.translate([line], settings)[0] for line in LINES]
    for one, other in zip(together, alone):
        assert [found.text for found in one.hypotheses] == [found.text for found in other.hypotheses]
        assert [found.score for found in one.hypotheses] == pytest.approx(
            [f.score for f in other.hypotheses], abs=1e-4
        )
    assert together[1].text == together[5].text == ""


def test_a_long_line_is_cut_and_says_so(engine):
    cut, whole = engine.translate(["rot " * 20, "rot"], GREEDY)
    assert cut.source_cut and not whole.source_cut
    assert cut.text == engine.translate(["rot " * 7], GREEDY)[0].text


def test_no_special_token_of_a_long_line_is_cut_away(tmp_path):
    """NLLB's end with the sentence's end and the language."""
    engine = HuggingFaceEngine(write_model(tmp_path, around="$A </s> !"))
    rot = engine.tokenizer.convert_tokens_to_ids("rot")
    assert engine.read("rot " * 20) == ([rot] * 6 + [1, 17], True)
    assert engine.read("rot " * 6) == ([rot] * 6 + [1, 17], False)


def test_how_to_search_is_said_by_the_settings_alone(tmp_path, engine):
    """Not by the model's generation config, as BART's would have it."""
    path = write_model(tmp_path) / "generation_config.json"
    own = {"no_repeat_ngram_size": 1, "min_length": 6, "repetition_penalty": 3.0, "encoder_no_repeat_ngram_size": 1}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    for settings in (GREEDY, BEAM, SAMPLES):
        assert HuggingFaceEngine(tmp_path).translate(LINES, settings) == engine.translate(LINES, settings)


@pytest.mark.parametrize("settings", [GREEDY, BEAM, SAMPLES], ids=["greedy", "beam", "sample"])
def test_values_that_overflow_give_no_translation(tmp_path, settings):
    engine = HuggingFaceEngine(write_model(tmp_path))
    engine.model.model.decoder.layers[0].fc2.weight.requires_grad_(False).fill_(float("inf"))
    with pytest.raises(NotFiniteError, match="score that is no number.* another dtype"):
        engine.translate(["rot"], settings)


def test_any_of_several_ends_is_one(tmp_path):
    path = write_model(tmp_path) / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": list(range(1, 18))}))
    for translation in HuggingFaceEngine(tmp_path).translate(["rot", "Mann und Hund"], SAMPLES):
        assert all(found.finished and len(found.text.split()) <= 1 for found in translation.hypotheses)
        assert all(found.score < 0 for found in translation.hypotheses)


def test_an_end_counts_that_is_the_padding_too(tmp_path, engine):
    path = write_model(tmp_path) / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": 1}))
    for settings in (GREEDY, replace(SAMPLES, length_penalty=1.0)):
        found = HuggingFaceEngine(tmp_path).translate(LINES, settings)
        assert found == engine.translate(LINES, settings)
        assert any(best.finished for translation in found for best in translation.hypotheses[:1] if best.text)


def test_spaces_before_punctuation_are_the_models(folder):
    """French has them, and some tokenizers of older versions ask for their removal."""
    engine = HuggingFaceEngine(folder)
    engine.tokenizer.clean_up_tokenization_spaces = True
    engine.model.generation_config.suppress_tokens = list(range(17))
    assert engine.translate(["rot"], replace(GREEDY, max_delta=0))[0].text == "! ! !"


def test_what_the_limit_cuts_is_not_given_an_end(tmp_path):
    """As OPUS-MT's generation config would have it."""
    folder = write_model(tmp_path)
    free = HuggingFaceEngine(folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"forced_eos_token_id": 1}))
    forced = HuggingFaceEngine(folder)
    for settings in (replace(GREEDY, max_delta=0), replace(BEAM, max_delta=0)):
        found = forced.translate(LINES, settings)
        assert found == free.translate(LINES, settings)
        assert not all(best.finished for translation in found for best in translation.hypotheses)


def test_what_it_cannot_do_is_told(tmp_path, folder):
    wu = SearchSettings()
    assert "Hugging Face supports only power for a beam" in search_problems("hugging_face", wu)[0]
    with pytest.raises(ConfigurationError, match="supports only power"):
        HuggingFaceEngine(folder).translate(["rot"], wu)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "not of a sequence-to-sequence model" in engine_problems("hugging_face", [tmp_path])[0]
    assert "needs a folder" in engine_problems("hugging_face", [folder / "config.json"])[0]
    assert engine_problems("hugging_face", [folder]) == []


def test_a_folder_whose_tokenizer_cannot_be_opened_is_told(corpus, tmp_path):
    model = write_family("nllb", tmp_path / "nllb", corpus)
    own = (model / "tokenizer_config.json").read_text()
    (model / "tokenizer_config.json").write_text('{"extra_special_tokens": ["deu_Latn"]}')
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"transformers_version": "5.1.0"}))
    assert "written by transformers 5.1.0" in engine_problems("hugging_face", [model])[0]
    (model / "tokenizer_config.json").write_text(own)
    (model / "sentencepiece.bpe.model").unlink()
    assert "the tokenizer's files are missing" in engine_problems("hugging_face", [model])[0]


@pytest.mark.parametrize("lost", ["model.encoder.layers.0.", "model.shared.weight", "final_logits_bias"])
def test_a_folder_that_lacks_weights_is_refused(lost, tmp_path, engine):
    """transformers would draw them at random, and only warn; a bias of zeros is none of them."""
    path = write_model(tmp_path) / "model.safetensors"
    weights = {name.replace(lost, f"_orig_mod.{lost}"): weight for name, weight in load_file(path).items()}
    save_file(weights, path, {"format": "pt"})
    if lost == "final_logits_bias":
        assert (
            HuggingFaceEngine(tmp_path).translate(["rot"], GREEDY)[0].text == engine.translate(["rot"], GREEDY)[0].text
        )
        return
    with pytest.raises(ConfigurationError) as raised:
        HuggingFaceEngine(tmp_path)
    assert str(tmp_path) in str(raised.value) and "at random" in str(raised.value)
    assert lost in str(raised.value)


def test_samples_of_tokens_that_are_as_good_as_certain_are_greedy(engine):
    """Epsilon sampling always leaves the most probable token."""
    sampled, greedy = engine.translate(LINES[:1], replace(SAMPLES, epsilon=0.999)), engine.translate(LINES[:1], GREEDY)
    assert [hypothesis.text for hypothesis in sampled[0].hypotheses] == [greedy[0].text] * SAMPLES.n_best


@pytest.mark.parametrize("family", FAMILIES)
def test_what_looks_like_a_special_token_is_read_as_text(family, corpus, tmp_path):
    """Of the end of a sentence, padding, mBART's languages, and OPUS-MT's tags, as the text of a page may have them."""
    folder = write_family(family, tmp_path / family, corpus)
    text = FolderText.of(folder, FAMILIES[family], size=20)
    (path, *_) = [path for name in ("source.spm", "sentencepiece.bpe.model") if (path := folder / name).is_file()]
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for line in (
        "der </s> Hund",
        "rot <pad>",
        "in de_DE sieht",
        "der >>rot<< Hund",
        ">>Mann<< und >>rot<< Haus",
        "</s>",
    ):
        ids, _ = text.read(line)
        pieces = text.tokenizer.convert_tokens_to_ids(model.encode(line, out_type=str))
        before = ids.index(pieces[0])
        assert ids[before : before + len(pieces)] == pieces
        assert len(ids) == text.special_tokens + (family == "marian_with_tags") + len(pieces)


def test_t5_reads_what_looks_like_an_end_as_text_too(corpus, tmp_path):
    from transformers import T5Config, T5Tokenizer

    train_pieces(tmp_path / "spiece.model", corpus / "train.de", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    T5Tokenizer(str(tmp_path / "spiece.model")).save_pretrained(tmp_path)
    T5Config(decoder_start_token_id=0).save_pretrained(tmp_path)
    text = FolderText.of(tmp_path, (None, None), size=20)
    ids, _ = text.read("der </s> Hund")
    assert ids.count(1) == 1 and ids[-1] == 1


def test_a_tag_is_one_only_in_front(corpus, tmp_path):
    folder = write_family("marian_with_tags", tmp_path / "tags", corpus)
    text = FolderText.of(folder, (None, "ignore"), size=20)
    tagged, other = (
        text.tokenizer.convert_ids_to_tokens(text.read(f">>{tag}<< der >>fra<< rot")[0]) for tag in ("spa", "a")
    )
    assert tagged[:2] == [">>spa<<", "▁der"] and tagged.count("▁rot") == 1 and ">>fra<<" not in tagged
    assert other[0] == "▁" and "▁der" in other


def test_tokens_that_somebody_has_added_are_kept_whole(corpus, tmp_path):
    folder = write_family("marian", tmp_path / "marian", corpus)
    tokenizer = FolderText.of(folder, (None, None), size=20).tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<ph>"]})
    tokenizer.save_pretrained(folder)
    text = FolderText.of(folder, (None, None), size=20)
    assert "<ph>" in text.tokenizer.convert_ids_to_tokens(text.read("der <ph> rot")[0])


@pytest.mark.parametrize(
    ("family", "start"), [("mbart", ["en_XX"]), ("mbart_50", ["</s>", "en_XX"]), ("nllb", ["</s>", "eng_Latn"])]
)
def test_a_translation_begins_as_in_the_models_training(family, start, corpus, tmp_path):
    """Without a tokenizer.json, the tokenizer is read from SentencePiece's file."""
    engine = HuggingFaceEngine(write_family(family, tmp_path / family, corpus), "cpu", "float32", *FAMILIES[family])
    assert engine.prompt == engine.tokenizer.convert_tokens_to_ids(start)
    assert len(engine.translate(["der Hund"], GREEDY)) == 1


def test_the_unknown_word_is_the_targets_where_each_side_has_a_vocabulary(corpus, tmp_path):
    folder = write_family("marian_of_two_vocabularies", tmp_path / "two", corpus)
    path = folder / "target_vocab.json"
    known = json.loads(path.read_text())
    known["<unk>"], known["▁red"] = known["▁red"], known["<unk>"]
    path.write_text(json.dumps(known))
    engine = HuggingFaceEngine(folder)
    bias = engine.model.final_logits_bias.zero_()
    bias[0, known["▁dog"]], bias[0, known["<unk>"]] = 1e3, 2e3
    assert bias.shape[1] < len(engine.tokenizer.get_vocab())
    for settings in (GREEDY, replace(SAMPLES, n_best=1)):
        (translation,) = engine.translate(["rot"], settings)
        assert set(translation.text.split()) == {"dog"}
        (translation,) = engine.translate(["rot"], replace(settings, allow_unknown=True))
        assert "dog" not in translation.text


def test_an_unknown_word_that_the_model_forbids_is_generated_if_it_is_allowed(folder, monkeypatch):
    engine = HuggingFaceEngine(folder)
    pad, unknown = engine.model.config.pad_token_id, engine.tokenizer.unk_token_id
    engine.model.final_logits_bias[0, unknown], engine.model.final_logits_bias[0, pad] = 500.0, 1000.0
    for forbidding in ({"bad_words_ids": [[pad], [unknown]]}, {"bad_words_ids": None, "suppress_tokens": [unknown]}):
        engine.model.generation_config.update(**forbidding)
        for settings, allowed in itertools.product((GREEDY, BEAM, SAMPLES), (False, True)):
            monkeypatch.setattr(engine.tokenizer, "batch_decode", lambda ids, **_: [str(row.tolist()) for row in ids])
            (translation,) = engine.translate(["rot"], replace(settings, allow_unknown=allowed))
            ids = set(json.loads(translation.text))
            assert ids == {unknown} if allowed else ids.isdisjoint({unknown})


def test_a_sequence_that_the_model_forbids_is_not_written(folder):
    engine = HuggingFaceEngine(folder)
    engine.model.final_logits_bias[0, 17] = 1000.0
    assert engine.translate(["rot"], GREEDY)[0].text.startswith("! ! !")
    engine.model.generation_config.bad_words_ids = [[0], [2], [17, 17]]
    text = engine.translate(["rot"], GREEDY)[0].text
    assert text.startswith("! ") and "! !" not in text


@pytest.mark.parametrize("settings", [GREEDY, BEAM, SAMPLES], ids=["greedy", "beam", "sample"])
@torch.inference_mode()
def test_scores_are_those_of_the_targets_words_where_each_side_has_a_vocabulary(
    settings, corpus, tmp_path, monkeypatch
):
    engine = HuggingFaceEngine(write_family("marian_of_two_vocabularies", tmp_path / "two", corpus))
    outputs, scores = [], engine._scores
    monkeypatch.setattr(engine, "_scores", lambda *given: outputs.append(given[0].sequences) or scores(*given))
    (translation,) = engine.translate(["der Hund"], settings)
    source, never = torch.tensor([engine.read("der Hund")[0]]), torch.tensor(engine.never(settings))
    expected = []
    for ids in outputs[0]:
        logits = engine.model(source, decoder_input_ids=ids[None, :-1]).logits[0]  # (T, V)
        log_probs = logits.index_fill(-1, never, -torch.inf).log_softmax(-1)
        ends = (ids[1:] == engine.tokenizer.eos_token_id).nonzero().flatten().tolist()
        length = ends[0] + 1 if ends else len(ids) - 1
        total = log_probs[:length].gather(-1, ids[1 : length + 1, None]).sum().item()
        expected.append(total / settings.penalty(length))
    found = [hypothesis.score for hypothesis in translation.hypotheses]
    assert found == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


@torch.inference_mode()
def test_a_translation_of_mbart_begins_with_its_language_and_nothing_before_it(corpus, tmp_path):
    engine = HuggingFaceEngine(write_family("mbart", tmp_path / "mbart", corpus), "cpu", "float32", "de", "en")
    language = engine.tokenizer.convert_tokens_to_ids("en_XX")
    source = torch.tensor([engine.read("der Hund")[0]])
    (translation,) = engine.translate(["der Hund"], replace(GREEDY, max_delta=0))
    ids, total = [language], 0.0
    never = torch.tensor(engine.never(GREEDY))
    while len(ids) < source.shape[1] + 1 and ids[-1] != engine.tokenizer.eos_token_id:
        logits = engine.model(source, decoder_input_ids=torch.tensor([ids])).logits[0, -1]
        best = logits.index_fill(-1, never, -torch.inf).log_softmax(-1).max(-1)
        ids.append(best.indices.item())
        total += best.values.item()
    assert translation.text == engine.text(ids[1:])
    assert translation.hypotheses[0].score == pytest.approx(total, abs=1e-4)


def test_weights_that_hold_an_array_of_objects_are_not_read(tmp_path, folder):
    """Its pointers would come from the file. Importing NeMo allows torch to unpickle them."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    weights = load_file(other / "model.safetensors")
    (other / "model.safetensors").unlink()
    torch.save({**weights, "array": np.array([None], dtype=object)}, other / "pytorch_model.bin")
    allowed = [np.ndarray, np.dtype, np._core.multiarray._reconstruct, np.dtypes.ObjectDType]
    with torch.serialization.safe_globals(allowed):
        assert "array" in torch.load(other / "pytorch_model.bin", weights_only=True)
        with pytest.raises(ConfigurationError, match="cannot be loaded: Unable to load weights"):
            HuggingFaceEngine(other)
    torch.save(weights, other / "pytorch_model.bin")
    settings = SearchSettings(length_penalty=0)
    assert HuggingFaceEngine(other).translate(["der Hund"], settings)[0].hypotheses
