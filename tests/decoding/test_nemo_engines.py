"""From text to text, as NeMo's own `translate` does it."""

import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill.config.errors import NotFiniteError
from nemo_distill.decoding.engine import EMPTY
from nemo_distill.decoding.settings import SearchSettings
from tests.conftest import tiny_config

LINES = ["der Hund sieht", "Mann", "", "rot und Haus und der Mann sieht", "   ", "Hund Hund", "ein Neuling ß"]


@pytest.fixture
def engine(model):
    from nemo_distill.decoding.nemo_engines import CachedEngine

    return CachedEngine([model])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_both_engines_and_nemos_translate_agree_one_sentence_at_a_time(model, engine, beam_size):
    from nemo_distill.decoding.nemo_engines import NeMoEngine

    settings = SearchSettings(beam_size=beam_size, length_penalty=0.0, max_delta=5)
    translations = engine.translate(LINES, settings)
    others = NeMoEngine(model).translate(LINES, settings)
    for line, ours, nemos in zip(LINES, translations, others, strict=True):
        if line.strip():
            if ours.text:  # NeMo goes on behind an end that is the first token
                assert ours.text == nemos.text == model.eval().translate([line])[0]
                assert ours.hypotheses[0].finished == nemos.hypotheses[0].finished
                assert ours.hypotheses[0].score == pytest.approx(nemos.hypotheses[0].score, abs=1e-4)
        else:
            assert ours == nemos == EMPTY
    assert sum(bool(translation.text) for translation in translations) >= 3


def test_samples_of_a_line_do_not_depend_on_its_neighbours_but_on_the_seed(engine):
    def texts(lines, seed):
        settings = SearchSettings(method="sample", n_best=3, temperature=50.0, max_delta=5, seed=seed)
        return [[found.text for found in translation.hypotheses] for translation in engine.translate(lines, settings)]

    together = texts(LINES, seed=1)
    assert texts(LINES[3:4], seed=1) == together[3:4]
    assert texts(LINES, seed=2) != together


def test_a_line_longer_than_the_model_reads_is_cut_and_says_so(engine):
    long = " ".join(["Hund"] * 200)
    cut, whole = engine.translate([long, "Hund"], SearchSettings(max_delta=5))
    assert cut.source_cut and not whole.source_cut
    lines = [" ".join(["Hund"] * count) + more for count in range(1, 63) for more in ("", " rot", " und", " der")]
    longest = next(line for line in lines if len(engine.source_ids(line)) == engine.max_source_length)
    assert not engine.translate([longest], SearchSettings(beam_size=1, max_delta=0))[0].source_cut
    assert len(engine._cut(engine.source_ids(long))) == engine.max_source_length == 64
    assert engine._cut(engine.source_ids(long))[-1] == engine.special.eos


def test_several_models_cut_a_line_to_what_each_of_them_reads(tokenizer):
    from nemo_distill import DistillableMTEncDecModel
    from nemo_distill.decoding.nemo_engines import CachedEngine

    models = [
        DistillableMTEncDecModel(tiny_config(tokenizer, seed_size={"max_sequence_length": most})).eval()
        for most in (64, 32)
    ]
    for both in (models, models[::-1]):
        (found,) = CachedEngine(both).translate([" ".join(["Hund"] * 40)], SearchSettings(beam_size=1, max_delta=2))
        assert found.source_cut


def test_models_that_read_text_in_other_ways_are_not_averaged(tokenizer):
    from nemo_distill import ConfigurationError, DistillableMTEncDecModel
    from nemo_distill.decoding.nemo_engines import CachedEngine

    configs = [OmegaConf.merge(tiny_config(tokenizer), change) for change in ({}, {"src_language": "de"})]
    models = [DistillableMTEncDecModel(config).eval() for config in configs]
    with pytest.raises(ConfigurationError, match=r"src_language=de.*src_language=ignore"):
        CachedEngine(models)
    assert CachedEngine(models, reads_ids=True)


def test_the_smallest_batches_give_the_same_as_the_largest(model, engine):
    from nemo_distill.decoding.nemo_engines import CachedEngine

    settings = SearchSettings(beam_size=2, n_best=2)
    alone = CachedEngine([model], tokens_per_batch=1).translate(LINES, settings)
    for one, other in zip(alone, engine.translate(LINES, settings), strict=True):
        assert [h.text for h in one.hypotheses] == [h.text for h in other.hypotheses]


def test_a_model_averaged_with_itself_is_itself(model, engine):
    from nemo_distill.decoding.nemo_engines import CachedEngine

    pair = CachedEngine([model, model], weights=[3.0, 1.0])
    for one, other in zip(pair.translate(LINES, SearchSettings()), engine.translate(LINES, SearchSettings())):
        assert one.text == other.text


def test_an_ensemble_averages_probabilities(model):
    from nemo_distill.decoding.cached_decoder import EnsembleDecoder

    class Fixed:
        def __init__(self, probabilities):
            self.logits = torch.tensor(probabilities).log() + 5.0

        def step(self, state, tokens):
            return self.logits

    ensemble = EnsembleDecoder([Fixed([0.8, 0.2]), Fixed([0.4, 0.6])], weights=[1.0, 3.0])
    log_probs = ensemble.step(type("State", (), {"states": [None, None]})(), None)
    assert torch.allclose(log_probs.exp(), torch.tensor([0.5, 0.5]))


def test_nemos_search_refuses_what_it_cannot_do(model):
    from nemo_distill.decoding.nemo_engines import NeMoEngine

    with pytest.raises(ValueError, match="NeMo's search supports only a beam"):
        NeMoEngine(model).translate(["Hund"], SearchSettings(n_best=2))


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_values_that_overflow_give_no_translation(tokenizer, method):
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    from nemo_distill.decoding.nemo_engines import CachedEngine

    model = MTEncDecModel(tiny_config(tokenizer)).eval().requires_grad_(False)
    model.decoder.decoder.layers[0].third_sub_layer.dense_in.weight.fill_(3e38)
    with pytest.raises(NotFiniteError, match="score that is no number.* another dtype"):
        CachedEngine([model]).translate(["Hund"], SearchSettings(method=method, max_delta=2))
