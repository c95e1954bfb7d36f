"""What every engine promises: what a score is, how long a hypothesis may be, what becomes of odd text."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import sentencepiece
import torch

from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.decoding.engines import search_problems
from nemo_distill.decoding.hugging_face_engine import HuggingFaceEngine
from nemo_distill.decoding.nemo_engines import CachedEngine, NeMoEngine
from nemo_distill.decoding.settings import SearchSettings
from tests.decoding.test_ctranslate2_engine import random_model
from tests.decoding.test_hugging_face_engine import write_model

LINES = ["der Hund sieht rot", "und", "der Mann und der Hund sieht Haus", "rot Haus", "Mann und Hund"]
LIKELY_TO_END = 9.0  # added to the end's logit
POSITIONS = {"nemo_distill": 64, "nemo": 64, "ctranslate2": 64, "marian": 32, "bart": 31, "m2m": 31}  # behind a prompt

SEARCHES = {
    "greedy": SearchSettings(beam_size=1, length_penalty=0.6, max_delta=3),
    "greedy_power": SearchSettings(beam_size=1, length_penalty=1.0, length_penalty_form="power", max_delta=3),
    "beam": SearchSettings(length_penalty=0.0, max_delta=3),
    "beam_wu": SearchSettings(beam_size=3, length_penalty=0.6, max_delta=3),
    "beam_strong_wu": SearchSettings(length_penalty=3.0, max_delta=8),
    "n_best": SearchSettings(n_best=4, length_penalty=0.0, max_delta=3),
    "n_best_power": SearchSettings(n_best=4, length_penalty=1.0, length_penalty_form="power", max_delta=3),
    "samples": SearchSettings(method="sample", n_best=3, length_penalty=0.6, max_delta=3, temperature=2.0),
    "samples_top_k": SearchSettings(method="sample", n_best=3, length_penalty=0.0, max_delta=3, top_k=5),
    "samples_top_p": SearchSettings(
        method="sample", n_best=3, length_penalty=1.0, length_penalty_form="power", max_delta=3, top_p=0.8
    ),
}


@dataclass
class Subject:
    """An engine whose translations are ids, written as text.

    Args:
        name: of the engine, or of the Hugging Face model.
        engine: to be asked.
        model: that it runs.
        eos: the end's id.
        source: returns the source ids of a line.
        prompt: what the decoder reads before the first token.
        special: tokens around a source.
        never: ids that no search generates unless it may generate unknown words: padding and unknown words.
    """

    name: str
    engine: Any
    model: Any
    eos: int
    source: Any
    prompt: list[int]
    special: int
    never: list[int]

    def score(self, line, hypothesis):
        """The summed log-probability of the hypothesis, its end included, and how many tokens that is."""
        labels = ids_of(hypothesis) + [self.eos] * hypothesis.finished
        src, tgt = torch.tensor([self.source(line)]), torch.tensor([[*self.prompt, *labels[:-1]]])
        with torch.no_grad():
            if hasattr(self.model, "generation_config"):
                scores = self.model(input_ids=src, decoder_input_ids=tgt).logits
            else:
                scores = self.model(src, torch.ones_like(src), tgt, torch.ones_like(tgt))  # (1, P + T - 1, V)
        scores = scores.index_fill(-1, torch.tensor(self.never), -torch.inf).log_softmax(-1)
        label_log_probs = scores[0, len(self.prompt) - 1 :].gather(-1, torch.tensor(labels)[:, None])
        return label_log_probs.sum().item(), len(labels)

    def never_ends(self):
        if hasattr(self.model, "generation_config"):
            self.engine.model.generation_config.suppress_tokens = [self.eos]


def ids_of(hypothesis):
    return [int(word) for word in hypothesis.text.split()]


def nemo_subjects(path, names):
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    from nemo_distill.nemo_files.restore import restore_for_inference

    for name in names:
        model = restore_for_inference(MTEncDecModel, path)
        ours = CachedEngine([model])
        if name == "ctranslate2":
            engine = CTranslate2Engine.from_nemo(path, inter_threads=1)
            engine._target_tokenizer.decode = lambda ids: " ".join(map(str, ids))
        else:
            engine = ours if name == "nemo_distill" else NeMoEngine(model)
            engine._text = lambda tokens: " ".join(map(str, tokens))
        special = ours.special
        never = [special.pad, model.decoder_tokenizer.unk_id]
        yield name, Subject(name, engine, model, special.eos, ours.source_ids, [special.bos], 2, never)


def write_m2m(folder, tokenizer):
    """An M2M-100, which begins with a token for the language, behind the end's as its start."""
    from transformers import M2M100Config, M2M100ForConditionalGeneration, M2M100Tokenizer

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    words = [pieces.id_to_piece(index) for index in range(4, pieces.vocab_size())]
    vocabulary = {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    own = M2M100Tokenizer(str(folder / "vocab.json"), str(tokenizer), src_lang="de", tgt_lang="en")
    own.save_pretrained(folder)
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=1 + max(own.id_to_lang_token), d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=32,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=32, init_std=0.7,
    )  # fmt: skip
    model = M2M100ForConditionalGeneration(config)
    model.generation_config.num_beams = 5  # as the published ones have it
    model.generation_config.early_stopping = True
    model.save_pretrained(folder)
    return HuggingFaceEngine(folder, source_language="de", target_language="en")


def write_bart(folder):
    """A model whose own generation config forces a first token, and a search, as BART's for summaries does."""
    path = write_model(folder) / "generation_config.json"
    own = {"forced_bos_token_id": 5, "no_repeat_ngram_size": 1, "min_length": 9, "repetition_penalty": 3.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    return HuggingFaceEngine(folder)


def hugging_face_subject(name, engine, forced):
    end = engine.model.generation_config.eos_token_id
    engine.tokenizer.batch_decode = lambda rows, **options: [
        " ".join(str(index) for index in row[: [*row, end].index(end)]) for row in rows.tolist()
    ]
    prompt = [engine.model.config.decoder_start_token_id, *forced]
    special, never = (2, [1, 3, *_without_a_token(engine)]) if name == "m2m" else (1, [0, 2])
    return name, Subject(
        name, engine, engine.model, end, lambda line: engine.tokenizer(line)["input_ids"], prompt, special, never
    )


def _without_a_token(engine):
    tokenizer, size = engine.tokenizer, engine.model.config.vocab_size
    return [index for index in range(size) if tokenizer.convert_ids_to_tokens(index) in ("<unk>", None)]


@pytest.fixture(scope="module")
def paths(tokenizer, tmp_path_factory):
    """Models of NeMo: one that ends now and then, and one that never does."""
    folder = tmp_path_factory.mktemp("all_engines")
    for name, bias in (("ends", LIKELY_TO_END), ("rambles", -1e4)):
        model = random_model(tokenizer)
        model.log_softmax.mlp.layer0.bias[model.decoder_tokenizer.eos_id] = bias
        model.log_softmax.mlp.layer0.bias[model.decoder_tokenizer.vocab_size :] = -1e4
        model.save_to(str(folder / f"{name}.nemo"))
    return folder


@pytest.fixture(scope="module")
def subjects(paths, tokenizer):
    folders = {name: paths / name for name in ("marian", "bart", "m2m")}
    for folder in folders.values():
        folder.mkdir()
    m2m = write_m2m(folders["m2m"], tokenizer)
    return dict(
        [
            *nemo_subjects(paths / "ends.nemo", ["nemo_distill", "nemo", "ctranslate2"]),
            hugging_face_subject("marian", HuggingFaceEngine(write_model(folders["marian"])), []),
            hugging_face_subject("bart", write_bart(folders["bart"]), [5]),
            hugging_face_subject("m2m", m2m, [m2m.tokenizer.get_lang_id("en")]),
        ]
    )


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("name", POSITIONS)
def test_a_score_is_the_models_log_probability_over_the_penalty(subjects, name, search):
    """Of the output's tokens, the end included, but for forced tokens, among those that may be generated."""
    subject, settings = subjects[name], SEARCHES[search]
    if search_problems(name if name in ("nemo_distill", "nemo", "ctranslate2") else "hugging_face", settings):
        pytest.skip("the engine does not know these settings")
    for line, translation in zip(LINES, subject.engine.translate(LINES, settings), strict=True):
        scores = [hypothesis.score for hypothesis in translation.hypotheses]
        assert len(scores) == settings.n_best and scores == sorted(scores, reverse=True)
        for hypothesis in translation.hypotheses:
            total, length = subject.score(line, hypothesis)
            assert hypothesis.score == pytest.approx(total / settings.penalty(length), rel=1e-3, abs=2e-3)
        if settings.method == "beam":
            assert len({hypothesis.text for hypothesis in translation.hypotheses}) == settings.n_best


@pytest.fixture(scope="module")
def ramblers(paths, subjects):
    found = dict(nemo_subjects(paths / "rambles.nemo", ["nemo_distill", "nemo", "ctranslate2"]))
    for name in ("marian", "bart", "m2m"):
        found[name] = subjects[name]
        found[name].never_ends()
    return found


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("max_delta", [0, 3, None])
@pytest.mark.parametrize("name", POSITIONS)
def test_a_hypothesis_may_be_as_long_with_every_engine(ramblers, name, max_delta, beam_size):
    """As the source's tokens, two special ones and `max_delta`, whatever special ones its tokenizer adds."""
    subject = ramblers[name]
    settings = SearchSettings(beam_size=beam_size, length_penalty=0.0, max_delta=max_delta)
    for line, translation in zip(LINES, subject.engine.translate(LINES, settings)):
        most = len(subject.source(line)) - subject.special + 2 + (max_delta or 0)
        (hypothesis,) = translation.hypotheses
        assert len(ids_of(hypothesis)) == (POSITIONS[name] if max_delta is None else most)
        assert not hypothesis.finished


@pytest.mark.parametrize("name", ["nemo_distill", "nemo"])
def test_the_token_for_a_language_makes_a_hypothesis_no_longer(ramblers, name, monkeypatch):
    engine, settings = ramblers[name].engine, SearchSettings(beam_size=2, length_penalty=0.0, max_delta=0)
    without = [len(ids_of(translation.hypotheses[0])) for translation in engine.translate(LINES, settings)]
    monkeypatch.setattr(engine, "prefix", [7])
    found = engine.translate(LINES, settings)
    assert [len(ids_of(translation.hypotheses[0])) for translation in found] == without


NOTHING = {
    "empty": "", "spaces": "  ", "no-break space": "\u00a0", "tab": "\t", "ideographic space": "\u3000", "NUL": "\0",
    "zero width space": "\u200b", "byte order mark": "\ufeff", "joiners": "\u200d\u200c \u2060", "soft hyphen": "\u00ad",
    "right-to-left mark": "\u200f", "isolates": "\u2066\u2069", "variation selector": "\ufe0f", "Hangul filler": "\u3164",
    "line separator": "\u2028", "empty Braille cell": "\u2800", "several": " \ufeff\u200b\t ",
}  # fmt: skip


@pytest.mark.parametrize("name", POSITIONS)
def test_a_line_without_a_token_is_empty_with_every_engine(subjects, name):
    translations = subjects[name].engine.translate([*NOTHING.values(), "rot"], SEARCHES["beam"])
    found = {what: translation.is_of_nothing for what, translation in zip([*NOTHING, "rot"], translations)}
    assert found == dict.fromkeys(NOTHING, True) | {"rot": False}


@pytest.fixture(scope="module")
def ignorants(paths, tokenizer):
    """Models that prefer padding to the unknown word, and the unknown word to all others."""
    model = random_model(tokenizer)
    bias = model.log_softmax.mlp.layer0.bias
    bias[model.decoder_tokenizer.unk_id], bias[model.decoder_tokenizer.pad_id] = 500.0, 1000.0
    model.save_to(str(paths / "ignorant.nemo"))
    found = dict(nemo_subjects(paths / "ignorant.nemo", ["nemo_distill", "nemo", "ctranslate2"]))
    for name, write in (("marian", write_model), ("m2m", lambda folder: write_m2m(folder, tokenizer))):
        folder = paths / f"ignorant_{name}"
        folder.mkdir()
        made = write(folder)
        engine = HuggingFaceEngine(folder) if name == "marian" else made
        engine.model.generation_config.bad_words_ids = None
        preferred = torch.zeros(engine.model.config.vocab_size)
        preferred[engine.tokenizer.unk_token_id], preferred[engine.tokenizer.pad_token_id] = 500.0, 1000.0
        engine.model.lm_head.register_forward_hook(lambda head, inputs, output, bias=preferred: output + bias)
        found |= dict([hugging_face_subject(name, engine, [])])
    return found


@pytest.mark.parametrize("search", ["greedy", "beam", "samples"])
@pytest.mark.parametrize("name", ["nemo_distill", "nemo", "ctranslate2", "marian", "m2m"])
def test_padding_is_never_generated_and_an_unknown_word_only_if_allowed(ignorants, name, search):
    subject, settings = ignorants[name], replace(SEARCHES[search], length_penalty=0.0)
    if name == "nemo" and settings.method == "sample":
        pytest.skip("NeMo's search draws no samples")
    unknown = subject.never[1]
    for allowed in (False, True):
        translations = subject.engine.translate(LINES, replace(settings, allow_unknown=allowed))
        ids = {index for translation in translations for best in translation.hypotheses[:1] for index in ids_of(best)}
        assert ids.isdisjoint(subject.never) if not allowed else ids == {unknown}


def test_ids_without_a_piece_are_unknown_words():
    """NeMo 1.x rounded the vocabulary up."""
    tokenizer = SimpleNamespace(pad_id=3, unk_id=0, eos_id=2, vocab_size=5)
    engine = SimpleNamespace(model=SimpleNamespace(decoder_tokenizer=tokenizer, decoder=SimpleNamespace(vocab_size=8)))
    assert CachedEngine._never(engine, SearchSettings()) == (0, 3, 5, 6, 7)
    assert CachedEngine._never(engine, SearchSettings(allow_unknown=True)) == (3,)
    tokenizer.pad_id = tokenizer.eos_id
    assert CachedEngine._never(engine, SearchSettings()) == (0, 5, 6, 7)
