"""Our search against NeMo's own, against itself without its short cuts, and against other batches."""

import random

import pytest
import torch

from nemo_distill.decoding import search as search_module
from nemo_distill.decoding.search import OFTEN_ENOUGH, SpecialIds, _draw, search
from nemo_distill.decoding.settings import SearchSettings
from tests.decoding.conftest import pad, sources


def find(model, rows, settings, delta=6, uniforms=None, padded_to=0):
    from nemo_distill.decoding.cached_decoder import CachedDecoder

    tokenizer = model.decoder_tokenizer
    special = SpecialIds(tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)
    ids, mask = pad(rows, tokenizer.pad_id, padded_to)
    limits = torch.tensor([len(row) + delta for row in rows])
    return search(CachedDecoder(model), ids, mask, limits, special, settings, uniforms)


def find_with_nemo(model, row, beam_size, delta=6):
    """NeMo's search is right for one sentence at a time and without a length penalty."""
    model.beam_search.beam_size, model.beam_search.len_pen = beam_size, 0.0
    model.beam_search.max_delta_len = delta
    ids, mask = pad([row], model.decoder_tokenizer.pad_id)
    with torch.no_grad():
        hidden = model.encoder(input_ids=ids, encoder_mask=mask)
        _, scores, best = model.beam_search(
            encoder_hidden_states=hidden, encoder_input_mask=mask, return_beam_scores=True
        )
    model.eval().requires_grad_(False)  # NeMo's search leaves the decoder in train mode
    special = {model.decoder_tokenizer.pad_id, model.decoder_tokenizer.eos_id}
    tokens = best[0, 1:].tolist()
    end = next((index for index, token in enumerate(tokens) if token in special), len(tokens))
    return tokens[:end], scores.max().item()


def could_be_empty(model, row, beam_size):
    """Whether a beam could end at once: NeMo goes on behind an end that is a hypothesis's first token."""
    tokenizer = model.decoder_tokenizer
    ids, mask = pad([row], tokenizer.pad_id)
    first = torch.tensor([[tokenizer.bos_id]])
    best = model(ids, mask, first, torch.ones_like(first))[0, 0].topk(beam_size).indices.tolist()
    return bool({tokenizer.eos_id, tokenizer.pad_id} & set(best))


@pytest.mark.parametrize("beam_size", [1, 4])
def test_it_finds_what_nemo_finds_one_sentence_at_a_time(model, beam_size):
    rows = [row for row in sources(model, 30, seed=beam_size) if not could_be_empty(model, row, beam_size)]
    found = find(model, rows, SearchSettings(beam_size=beam_size, length_penalty=0.0))
    for row, (best,) in zip(rows, found):
        tokens, score = find_with_nemo(model, row, beam_size)
        assert best.tokens == tokens
        assert best.score == pytest.approx(score, abs=1e-4)
    assert len({tuple(best.tokens) for (best,) in found}) >= 10
    # Without the last norm the latest token's own embedding decides, and such a model never ends.
    assert any(best.finished for (best,) in found) == model.cfg.decoder.get("pre_ln_final_layer_norm", True)


SETTINGS = [
    SearchSettings(beam_size=1, length_penalty=0.0),
    SearchSettings(beam_size=4, n_best=4, length_penalty=0.0),
    SearchSettings(beam_size=3, n_best=2, length_penalty=1.0),
    SearchSettings(beam_size=5, n_best=1, length_penalty=2.0, length_penalty_form="power"),
    SearchSettings(method="sample", n_best=3, top_k=20, top_p=0.9, temperature=0.8),
]


def assert_same(some, others):
    for left, right in zip(some, others, strict=True):
        assert [(found.tokens, found.finished) for found in left] == [(f.tokens, f.finished) for f in right]
        assert [found.score for found in left] == pytest.approx([found.score for found in right], abs=1e-4)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_batch_size_order_and_padding_do_not_matter(model, settings):
    rows = sources(model, 17, seed=9)
    uniforms = torch.rand(17, settings.n_best, 30, generator=torch.Generator().manual_seed(2))
    alone = [find(model, [row], settings, uniforms=uniforms[index : index + 1])[0] for index, row in enumerate(rows)]
    generator = random.Random(5)
    for size in (2, 5, 17):
        order = generator.sample(range(17), 17)
        for start in range(0, 17, size):
            batch = order[start : start + size]
            found = find(model, [rows[i] for i in batch], settings, uniforms=uniforms[batch], padded_to=20)
            assert_same(found, [alone[i] for i in batch])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_stopping_early_and_rare_checks_change_nothing(model, settings, monkeypatch):
    rows = sources(model, 12, seed=4)
    uniforms = torch.rand(12, settings.n_best, 30, generator=torch.Generator().manual_seed(2))
    early = find(model, rows, settings, uniforms=uniforms)
    monkeypatch.setitem(search_module.STEPS_BETWEEN_CHECKS, "cpu", 4)
    assert_same(find(model, rows, settings, uniforms=uniforms), early)
    monkeypatch.setattr(search_module, "_done", lambda beams, settings: beams.ended.all(1) & False)
    assert_same(find(model, rows, settings, uniforms=uniforms), early)


def test_samples_of_the_most_probable_token_alone_are_greedy(model):
    rows = sources(model, 6, seed=2)
    greedy = find(model, rows, SearchSettings(beam_size=1))
    samples = find(model, rows, SearchSettings(method="sample", n_best=2, top_k=1), uniforms=torch.rand(6, 2, 30))
    for (best,), drawn in zip(greedy, samples):
        assert [found.tokens for found in drawn] == [best.tokens] * 2


class Flat:
    """A decoder to which all tokens are equally probable."""

    def __init__(self, words):
        self.words = words

    def start(self, src_ids, src_mask):
        return self

    def step(self, state, tokens):
        return torch.zeros(*tokens.shape, self.words)

    def select(self, sentences, rows):
        pass


def test_each_token_of_a_sample_is_drawn_by_a_number_of_its_own():
    uniforms, ids = torch.rand(1, 2, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([[1, 2]])
    special, settings = SpecialIds(pad=4, bos=0, eos=4, never=(4,)), SearchSettings(method="sample", n_best=2)
    (found,) = search(Flat(5), ids, torch.ones_like(ids), torch.tensor([6]), special, settings, uniforms)
    assert sorted(one.tokens for one in found) == sorted((uniforms[0] * 4).long().tolist())


def test_a_beam_wider_than_there_are_hypotheses_finds_those_that_there_are():
    special, settings = SpecialIds(pad=0, bos=1, eos=2, never=(0,)), SearchSettings(beam_size=3, n_best=3)
    ids = torch.tensor([[1, 2]])
    (found,) = search(Flat(3), ids, torch.ones_like(ids), torch.tensor([1]), special, settings)
    assert sorted((one.tokens, one.finished) for one in found) == [([], True), ([1], False)]


def test_tokens_are_drawn_as_often_as_they_are_probable():
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(1, 1, 4)
    uniforms = (torch.arange(1000) / 1000).unsqueeze(0)

    def drawn(**settings):
        ids = _draw(logits, SearchSettings(method="sample", **settings), uniforms)
        return torch.bincount(ids[0], minlength=4) / 1000

    assert torch.allclose(drawn(), torch.tensor([0.1, 0.4, 0.2, 0.3]), atol=2e-3)
    assert torch.allclose(drawn(top_k=2), torch.tensor([0.0, 4 / 7, 0.0, 3 / 7]), atol=2e-3)
    assert torch.allclose(drawn(top_p=0.75), torch.tensor([0.0, 4 / 9, 2 / 9, 3 / 9]), atol=2e-3)
    # Of the three best, which have 0.9, the first alone has more than 0.42 of their probability.
    assert torch.allclose(drawn(top_k=3, top_p=0.42), torch.tensor([0.0, 1.0, 0.0, 0.0]), atol=2e-3)
    assert torch.allclose(drawn(epsilon=0.25), torch.tensor([0.0, 4 / 7, 0.0, 3 / 7]), atol=2e-3)
    assert torch.allclose(drawn(epsilon=0.9), torch.tensor([0.0, 1.0, 0.0, 0.0]), atol=2e-3)
    assert torch.allclose(drawn(top_p=0.3), torch.tensor([0.0, 1.0, 0.0, 0.0]), atol=2e-3)


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.5}, {"epsilon": 0.3}])
def test_equally_probable_tokens_are_drawn_alike(settings):
    logits = torch.tensor([0.3, 0.1, 0.3, 0.3]).log().expand(1, 1, 4)
    ids = _draw(logits, SearchSettings(method="sample", **settings), torch.rand(1, 200))
    assert set(ids[0].tolist()) == {0, 2, 3}


def test_a_flat_distribution_beside_it_does_not_change_what_a_sentence_draws():
    generator = torch.Generator().manual_seed(0)
    peaked, uniforms = 9 * torch.randn(1, 1, 1000, generator=generator), torch.rand(2, 50, generator=generator)
    settings = SearchSettings(method="sample", top_p=0.9)
    both = _draw(torch.cat((peaked, torch.zeros(1, 1, 1000))), settings, uniforms)
    assert both[0].tolist() == _draw(peaked, settings, uniforms[:1])[0].tolist()
    assert len(set(both[0].tolist())) > 1 and both[1].max() > OFTEN_ENOUGH


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.99999}])
def test_a_token_without_probability_is_never_drawn(settings):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 5000, generator=generator).index_fill(-1, torch.tensor([0, 2500, 4999]), -torch.inf)
    uniforms = torch.cat((torch.rand(1, 5000, generator=generator), torch.tensor([[0.0, 1.0]])), dim=1)
    ids = _draw(logits, SearchSettings(method="sample", **settings), uniforms)
    assert torch.isfinite(logits[0, 0, ids[0]]).all() and len(set(ids[0].tolist())) > 1000


def test_step_by_step_it_gives_the_log_probabilities_of_the_whole_forward(model):
    from nemo_distill.decoding.cached_decoder import CachedDecoder

    ids, mask = pad(sources(model, 3, seed=0), model.encoder_tokenizer.pad_id)
    targets = torch.randint(4, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    whole = model(ids, mask, targets, torch.ones_like(targets))
    decoder = CachedDecoder(model)
    state = decoder.start(ids, mask)
    for position in range(7):
        step = decoder.step(state, targets[:, position : position + 1]).log_softmax(-1)[:, 0]
        assert torch.allclose(step, whole[:, position], atol=1e-9), position
