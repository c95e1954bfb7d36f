"""CTranslate2 as an engine: against NeMo's search, against forced scores, and against itself in other company."""

import gc
import os
import random
import subprocess
import sys

import pytest
import torch

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export.export_model import export_model
from nemo_distill.export.settings import ExportSettings
from nemo_distill.metrics.scores import bleu
from tests.conftest import reversing_sentences, tiny_config

SUM = SearchSettings(length_penalty=0.0)
GREEDY = SearchSettings(beam_size=1, length_penalty=0.0)
SAMPLES = SearchSettings(method="sample", n_best=3, length_penalty=0.0, temperature=1.5, seed=7)
LINES, REFERENCES = reversing_sentences(200, seed=-1)

SERVE = """
import sys
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.decoding.settings import SearchSettings
engine = CTranslate2Engine(sys.argv[1])
print(engine.translate(["der Hund sieht rot"], SearchSettings(length_penalty=0.0))[0].text)
print("nemo" in sys.modules, "lightning" in sys.modules)
"""


@pytest.fixture(scope="module")
def exported(trained_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine") / "exported"
    export_model(ExportSettings(trained_path, folder))
    return folder


@pytest.fixture(scope="module")
def engine(exported):
    return CTranslate2Engine(exported, inter_threads=1)


def plain_nemo(path):
    """NeMo's own class, whose `translate` runs NeMo's own search."""
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    import nemo_distill.nemo_files.youtokentome  # noqa: F401
    from nemo_distill.nemo_files.restore import restore_for_inference

    return restore_for_inference(MTEncDecModel, path)


@pytest.fixture(scope="module")
def model(trained_path):
    return plain_nemo(trained_path)


def random_model(tokenizer, library="sentencepiece", language="ignore"):
    """A model of clear preferences, other ones in each position; never for padding, which NeMo takes for an end."""
    from nemo_distill import DistillableMTEncDecModel

    config = tiny_config(tokenizer, seed_size={"learn_positional_encodings": True, "num_layers": 2})
    config.src_language = config.tgt_language = language
    for side in ("encoder", "decoder"):
        config[f"{side}_tokenizer"].library = library
    torch.manual_seed(0)
    model = DistillableMTEncDecModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.copy_(torch.randn_like(parameter))
    model.log_softmax.mlp.layer0.bias[model.decoder_tokenizer.pad_id] = -1e4
    return model


@pytest.fixture(scope="module")
def rambler(tokenizer, tmp_path_factory):
    """A model that never comes to an end, and an engine for it."""
    model = random_model(tokenizer)
    model.log_softmax.mlp.layer0.bias[model.decoder_tokenizer.eos_id] = -1e4
    path = tmp_path_factory.mktemp("rambler") / "rambler.nemo"
    model.save_to(str(path))
    return plain_nemo(path), CTranslate2Engine.from_nemo(path, inter_threads=1)


def texts(translations):
    return [translation.text for translation in translations]


def by_nemo(model, lines, beam_size=1, max_delta=50):
    """One line at a time and without a length penalty, as NeMo's search is right."""
    model.beam_search.beam_size, model.beam_search.len_pen = beam_size, 0.0
    model.beam_search.max_delta_len = max_delta
    return [model.translate([line])[0] for line in lines]


@pytest.mark.parametrize("beam_size", [1, 4])
def test_it_finds_what_nemo_finds_one_line_at_a_time(engine, model, beam_size):
    lines = LINES[:110]
    found = texts(engine.translate(lines, SearchSettings(beam_size=beam_size, length_penalty=0.0)))
    same = sum(ours == nemos for ours, nemos in zip(found, by_nemo(model, lines, beam_size)))
    assert same >= 0.99 * len(lines)
    assert len(set(found)) > 100


def test_int8_loads_and_translates(engine, trained_path):
    """Weights in int8 cost little; that activations are too costs a model of width 32 some of its quality."""
    exact = texts(engine.translate(LINES, SUM))
    stored = CTranslate2Engine.from_nemo(trained_path, "int8", compute_type="float32").translate(LINES, SUM)
    assert sum(ours == other for ours, other in zip(texts(stored), exact)) >= 0.95 * len(LINES)
    computed = CTranslate2Engine.from_nemo(trained_path, "int8").translate(LINES, SUM)
    assert bleu(exact, REFERENCES).value > 90
    assert bleu(texts(computed), REFERENCES).value > 70


@pytest.mark.parametrize(
    "settings",
    [
        SUM,
        GREEDY,
        SearchSettings(n_best=4, length_penalty=1.0, length_penalty_form="power", max_delta=0),
        SearchSettings(n_best=4, length_penalty=1.0, length_penalty_form="power", max_delta=None),
        SAMPLES,
    ],
)
@pytest.mark.parametrize("ends", [True, False])
def test_a_line_is_translated_alike_in_any_company(engine, rambler, settings, ends):
    engine, lines = engine if ends else rambler[1], LINES[:40]
    together = engine.translate(lines, settings)
    alone = [engine.translate([line], settings)[0] for line in lines]
    shuffled = list(range(len(lines)))
    random.Random(0).shuffle(shuffled)
    others = dict(zip(shuffled, engine.translate([lines[index] for index in shuffled], settings)))
    for index, translation in enumerate(together):
        for other in (alone[index], others[index]):
            assert [h.text for h in other.hypotheses] == [h.text for h in translation.hypotheses]
            assert [h.score for h in other.hypotheses] == pytest.approx(
                [h.score for h in translation.hypotheses], rel=2e-4, abs=1e-3
            )


@pytest.mark.parametrize(("threads", "workers"), [("3", 3), ("2,1", 2), (None, len(os.sched_getaffinity(0)))])
def test_each_thread_of_a_cpu_has_a_batch_of_its_own(exported, engine, monkeypatch, threads, workers):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    several = CTranslate2Engine(exported)
    assert several._translator.num_translators == workers
    found = [[translation.text for translation in one.translate(LINES, SUM)] for one in (several, engine)]
    assert found[0] == found[1]


def test_a_line_longer_than_the_table_is_cut_and_told(engine):
    longest = 64 - 2
    fits, beyond = "rot " * 20, "rot " * 200
    translations = engine.translate([fits, beyond], SearchSettings(beam_size=1, length_penalty=0.0, max_delta=None))
    assert [translation.source_cut for translation in translations] == [False, True]
    pieces = engine._source_tokenizer.encode([beyond])[0]
    assert len(pieces) > longest
    cut = engine._source_tokenizer.decode(pieces[:longest])
    assert engine.translate([cut], GREEDY)[0].text == engine.translate([beyond], GREEDY)[0].text


def test_samples_follow_their_seed(engine):
    lines = LINES[:10]
    first = engine.translate(lines, SAMPLES)
    assert engine.translate(lines, SAMPLES) == first
    again = SearchSettings(**{**SAMPLES.__dict__, "seed": 8})
    assert engine.translate(lines, again) != first
    assert sum(len({h.text for h in translation.hypotheses}) for translation in first) > 2 * len(lines)


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}])
def test_samples_from_the_best_token_alone_are_greedy(engine, narrow):
    settings = SearchSettings(method="sample", n_best=2, length_penalty=0.0, **narrow)
    for sampled, greedy in zip(engine.translate(LINES[:10], settings), engine.translate(LINES[:10], GREEDY)):
        assert [hypothesis.text for hypothesis in sampled.hypotheses] == [greedy.text] * 2


def test_more_tokens_than_there_are_can_be_sampled_from(engine):
    everything = SearchSettings(**{**SAMPLES.__dict__, "top_k": 10**6})
    assert len(engine.translate(LINES[:2], everything)[0].hypotheses) == 3


def test_a_penalty_that_ctranslate2_has_not_is_refused(engine):
    with pytest.raises(ConfigurationError) as error:
        engine.translate(["der"], SearchSettings(length_penalty_form="wu", length_penalty=0.6, beam_size=4))
    assert error.value.problems == [
        "length_penalty_form=wu: CTranslate2 supports only power for a beam; set length_penalty_form=power or "
        "length_penalty=0 instead of 0.6."
    ]
    with pytest.raises(ValueError, match="beam_size"):
        SearchSettings(beam_size=0)


def test_targets_have_the_log_probabilities_that_nemo_gives_them(engine, model):
    from nemo_distill.models.scoring import PairScorer

    targets = [*REFERENCES[:6], *LINES[6:12]]
    found, expected = engine.totals(LINES[:12], targets), PairScorer(model).totals(LINES[:12], targets)
    assert [tokens for _, tokens in found] == [tokens for _, tokens in expected]
    assert [total for total, _ in found] == pytest.approx([total for total, _ in expected], rel=1e-4)
    assert engine.totals(["", "der Hund"], ["the dog", " "]) == [(0.0, 0)] * 2


def test_long_pairs_are_scored_as_far_as_there_are_positions(trained_path, tmp_path):
    """CTranslate2 itself would read 1,024 tokens."""
    export_model(ExportSettings(trained_path, tmp_path / "long", max_positions=1200))
    engine = CTranslate2Engine(tmp_path / "long")
    found = engine.totals(["rot " * 1100, "rot " * 1300], ["red " * 1100, "red " * 1300])
    assert [tokens for _, tokens in found] == [1101, 1199]


def test_a_folder_that_is_no_export_for_it_is_told(trained_path, tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match="is not an export: it has no nemo_distill.json"):
        CTranslate2Engine(tmp_path)
    export_model(ExportSettings(trained_path, tmp_path / "onnx", format="onnx"))
    with pytest.raises(ConfigurationError, match="has format=onnx; format=ctranslate2 is needed"):
        CTranslate2Engine(tmp_path / "onnx")


def test_without_ctranslate2_it_says_what_to_install(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ConfigurationError, match=r"ctranslate2 is not installed: pip install 'nemo_distill\[ctran"):
        CTranslate2Engine(exported)


def test_serving_needs_no_nemo(exported):
    result = subprocess.run([sys.executable, "-c", SERVE, str(exported)], capture_output=True, text=True)
    assert result.stdout.split("\n")[:2] == ["red sees dog the", "False False"], result.stderr


def test_an_engine_leaves_torch_its_threads(exported, trained_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        CTranslate2Engine(exported)
        CTranslate2Engine.from_nemo(trained_path).translate(["der Hund"], SUM)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_engine_from_a_nemo_leaves_nothing_behind(trained_path, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    engine = CTranslate2Engine.from_nemo(trained_path)
    assert texts(engine.translate(["der Hund sieht rot"], SUM)) == ["red sees dog the"]
    del engine
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="quantization"):
        CTranslate2Engine.from_nemo(trained_path, "int4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("library", "language"), [("sentencepiece", "de"), ("yttm", "ignore"), ("yttm", "de")])
def test_text_is_treated_as_nemo_treats_it(library, language, tokenizer, yttm_tokenizer, tmp_path):
    """Moses before and after, unknown words, other tokenizers: greedy text is NeMo's to the letter."""
    tokenizers = {"sentencepiece": tokenizer, "yttm": yttm_tokenizer}
    path = tmp_path / "model.nemo"
    random_model(tokenizers[library], library, language).save_to(str(path))
    engine = CTranslate2Engine.from_nemo(path)
    lines = ["der Hund sieht rot.", "Der Mann, und das Häuschen: »rot«?", "  und   der  ", "sieht 3,5 %!"]
    settings = SearchSettings(beam_size=1, length_penalty=0.0, max_delta=5)
    assert texts(engine.translate(lines, settings)) == by_nemo(plain_nemo(path), lines, max_delta=5)
