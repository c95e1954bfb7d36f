"""The weights of pairs in a mix multiply the losses of their tokens, whatever loads the pairs."""

from pathlib import Path
from statistics import mean

import pytest
import torch

from nemo_distill import ConfigurationError
from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.commands.training_data import preprocess_data
from nemo_distill.config.errors import DataError
from nemo_distill.core.loss_terms import STUDENT_LOSS
from nemo_distill.models.cached_teacher import CachedTeacher
from nemo_distill.models.pair_weights import PairWeights
from nemo_distill.text.training_mix import mix_training_data
from tests.conftest import batch_of_lines, write_corpus
from tests.examples.bad_files import MODEL, write_nemo
from tests.models.conftest import distillation_of, problems
from tests.models.test_cached_teacher import make_cache

PREFIX = "nemo_distill.losses."
LOSSES = {
    "primary": {"_target_": f"{PREFIX}KLDivergenceLoss"},
    "ranking": {"_target_": f"{PREFIX}TopOneRankingLoss"},
    "selective": {"_target_": f"{PREFIX}SelectiveDistillationLoss", "share": 1.0, "queue_size": 0},
    "cosine": {"_target_": f"{PREFIX}CosineEmbeddingLoss"},
    "layers": {"_target_": f"{PREFIX}MeanSquaredErrorLoss", "hidden_states": "encoder_layers"},
    "attention": {"_target_": f"{PREFIX}AttentionMapsLoss"},
}
WEIGHTS = (0.2, 1.0, 0.0, 2.8)  # of the pairs in turn, so that the mean is 1


@pytest.fixture(scope="module")
def weighted(tmp_path_factory):
    """A folder with a corpus and its weights."""
    folder = tmp_path_factory.mktemp("weighted")
    write_corpus(folder, "pseudo", 48, seed=7)
    (folder / "pseudo.weights").write_text("".join(f"{weight * 5}\n" for weight in WEIGHTS * 12))
    return folder


@pytest.fixture
def mixed(distillation_config, weighted, corpus, tmp_path):
    """The config of a training on a mix of the weighted corpus and the references."""
    parts = {"pseudo": {"share": 0.5, "weights": f"{weighted}/pseudo.weights"}, "real": {"share": 0.5}}
    parts["pseudo"] |= {"source": f"{weighted}/pseudo.de", "target": f"{weighted}/pseudo.en"}
    distillation_config.distillation.mix = {"corpora": parts, "weighting": "loss"}
    distillation_config.distillation.distill_encoder = False
    distillation_config.distillation.loss = LOSSES
    distillation_config.label_smoothing = 0.1
    mix_training_data(distillation_config, tmp_path)
    return distillation_config


def build(config, folder):
    torch.manual_seed(0)
    model = distillation_of(config, folder)
    return model.eval()


def weights_of(model, batch):
    """The weights (B,) of a batch's pairs, from the text of the mix: for each pair the mean over its occurrences."""
    student, source = model.student, Path(model.student.cfg.train_ds.src_file_name)
    found = {}
    columns = [source.with_suffix(f".{ending}").read_text().splitlines() for ending in ("src", "tgt", "weights")]
    for *pair, weight in zip(*columns, strict=True):
        found.setdefault(tuple(pair), []).append(float(weight))
    sides = zip((batch[0], batch[-1]), (student.encoder_tokenizer, student.decoder_tokenizer))
    texts = [
        student.ids_to_postprocessed_text(ids, tokenizer, None, filter_beam_ids=False) for ids, tokenizer in sides
    ]
    return torch.tensor([mean(found[pair]) for pair in zip(*texts, strict=True)])


def squeezed(batch):
    return [tensor.squeeze(0) for tensor in batch]


def gradients(model, losses):
    model.zero_grad()
    sum(losses.values()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("fused", [True, False])
def test_losses_and_gradients_are_those_of_single_pairs_by_their_weights(fused, mixed, tmp_path):
    mixed.distillation.fused = fused
    model = build(mixed, tmp_path)
    batch = squeezed(max(model.train_dataloader(), key=lambda batch: batch[0].shape[-2]))
    weights = weights_of(model, batch)
    assert len(weights.unique()) > 2
    losses = model.distillation_losses(batch)
    assert set(losses) == {*LOSSES, STUDENT_LOSS}

    # Each pair by itself, unweighted: a mean over its tokens, which is what a weight of 1 gives.
    model.student._pair_weights, pad_id = None, model.student.decoder_tokenizer.pad_id
    expected, totals = dict.fromkeys(losses, 0.0), {}
    for row, weight in enumerate(weights):
        single = [tensor[row : row + 1] for tensor in batch]
        tokens = {"target": (single[-1] != pad_id).sum(), "source": single[1].sum()}
        for name, value in model.distillation_losses(single).items():
            share = weight * tokens["source" if name == "layers" else "target"]
            expected[name] = expected[name] + share * value
            totals[name] = totals.get(name, 0.0) + share
    expected = {name: value / totals[name] for name, value in expected.items()}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value.item(), rel=1e-4), name
    found, naive = gradients(model, losses), gradients(model, expected)
    assert set(found) == set(naive)
    assert all(torch.allclose(found[name], naive[name], atol=1e-5) for name in naive)


def test_a_batch_weighs_as_much_as_its_tokens(mixed, tmp_path):
    model = build(mixed, tmp_path)
    for batch in map(squeezed, model.train_dataloader()):
        tokens = (batch[-1] != model.student.decoder_tokenizer.pad_id).sum(dim=1)
        expected = (tokens * weights_of(model, batch)).sum()
        assert model.student.number_of_targets(batch).item() == tokens.sum().item()
        assert model.student.distillation_batch_weight(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_tarred_data_has_the_same_weights(mixed, tmp_path):
    mixed.preproc_out_dir = str(tmp_path / "tarred")
    mixed.train_ds.update({"use_tarred_dataset": True, "num_batches_per_tarfile": 2, "n_preproc_jobs": 1})
    preprocess_data(mixed, shown=False)
    model = build(mixed, tmp_path)
    seen = []
    for batch in map(squeezed, model.train_dataloader()):
        found = model.student._pair_weights.of(batch[0], batch[1], batch[-1])
        assert torch.allclose(found, weights_of(model, batch))
        seen += found.tolist()
    assert len(seen) == 128


def test_equal_pairs_have_the_mean_of_their_weights(tokenizer, mixed, tmp_path):
    model = build(mixed, tmp_path)
    for ending, lines in (("src", ["der Hund", "rot", "der Hund"]), ("tgt", ["the dog", "red", "the dog"])):
        (tmp_path / f"few.{ending}").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "few.weights").write_text("1\n7\n0.5\n")
    tokenizers = model.student.encoder_tokenizer, model.student.decoder_tokenizer
    weights = PairWeights(tmp_path / "few.src", tmp_path / "few.tgt", tokenizers)
    src_ids, src_mask, _, _, labels = batch_of_lines(model.student, ["rot", "der Hund"], ["red", "the dog"])
    assert weights.of(src_ids, src_mask, labels).tolist() == [7, 0.75]
    with pytest.raises(
        DataError, match="^model.distillation.mix.weighting=loss: .* no weight for the pair whose source is 'rot'"
    ):
        weights.of(src_ids, src_mask, labels.flip(0))


def test_a_teacher_cache_gives_the_weighted_losses_of_its_teacher(mixed, teacher_path, tmp_path):
    mixed.distillation.loss = {"primary": LOSSES["primary"]}
    expected = build(mixed, tmp_path)
    source = tmp_path / "mixed.de"
    source.write_bytes(Path(mixed.train_ds.src_file_name).read_bytes())
    source.with_suffix(".en").write_bytes(Path(mixed.train_ds.tgt_file_name).read_bytes())
    cache = make_cache(teacher_path, tmp_path / "cache", [source], "cache.k=null", "cache.dtype=float32")
    batch = squeezed(next(iter(expected.train_dataloader())))
    losses = expected.distillation_losses(batch)
    expected.teachers.models = [CachedTeacher(cache, "uniform", expected.student)]
    cached = expected.distillation_losses(batch)
    assert all(cached[name].item() == pytest.approx(value.item(), rel=1e-4) for name, value in losses.items())


def test_text_that_is_not_mixed_yet_is_refused(mixed, corpus, tmp_path):
    mixed.train_ds.src_file_name, mixed.train_ds.tgt_file_name = (
        str(corpus / f"train.{side}") for side in ("de", "en")
    )
    with pytest.raises(
        ConfigurationError, match=r"- model.distillation.mix.weighting=loss: '.*train.weights' does not exist"
    ):
        build(mixed, tmp_path)


def test_weights_in_the_loss_need_weights(job):
    mix = "model.distillation.mix"
    found = problems(check_distillation_job, job(f"+{mix}.corpora.real.share=1", f"{mix}.weighting=loss"))
    assert found == [f"{mix}.weighting=loss has no effect, because none of the corpora has weights."]


def test_sides_that_are_swapped_are_refused(job, weighted):
    mix, files = "model.distillation.mix", f"source: {weighted}/pseudo.de, target: {weighted}/pseudo.en"
    corpus = f"+{mix}.corpora.pseudo={{share: 1, {files}, weights: {weighted}/pseudo.weights}}"
    swapped = "model.train_ds.reverse_lang_direction=true"
    found = problems(check_distillation_job, job(corpus, f"{mix}.weighting=loss", swapped))
    assert any(f"{swapped} swaps" in one for one in found)


def test_ids_that_vary_are_refused(job, yttm_tokenizer, weighted, tmp_path):
    tokenizer = {"library": "yttm", "tokenizer_model": "nemo:tokenizer.model", "bpe_dropout": 0.1}
    config = MODEL | {f"{side}_tokenizer": tokenizer for side in ("encoder", "decoder")}
    write_nemo(tmp_path / "yttm.nemo", config, yttm_tokenizer.read_bytes())
    files = ", ".join(
        f"{key}: {weighted}/pseudo.{end}"
        for key, end in {"source": "de", "target": "en", "weights": "weights"}.items()
    )
    mix = "model.distillation.mix"
    overrides = [f"+{mix}.corpora.pseudo={{share: 1, {files}}}", f"{mix}.weighting=loss"]
    found = problems(check_distillation_job, job(f"model.distillation.model_path={tmp_path}/yttm.nemo", *overrides))
    said = "has bpe_dropout=0.1, so the ids of a sentence vary and do not match model.distillation.mix.weighting=loss"
    assert sum(said in problem for problem in found) == 2
