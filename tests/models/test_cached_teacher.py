"""A student learns from a teacher cache what it would learn from the teacher."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError
from nemo_distill.commands.cache_teacher import cache_teacher, caching_job, check_caching
from nemo_distill.config.errors import DataError
from nemo_distill.core.registry import Role
from nemo_distill.losses.top_k import top_k_of
from nemo_distill.models.student_config import complete_student
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.teacher_cache.cache import read_manifest
from nemo_distill.text.training_mix import mix_training_data
from tests.conftest import composed, train_sentencepiece, write_corpus
from tests.models.conftest import losses_and_gradient, registered, three_steps

PREFIX = "nemo_distill.losses."
WORD_LEVEL = {
    "kl": {"_target_": f"{PREFIX}KLDivergenceLoss"},
    "ce": {"_target_": f"{PREFIX}CrossEntropyLoss"},
    "reverse": {"_target_": f"{PREFIX}ReverseKLDivergenceLoss"},
    "js": {"_target_": f"{PREFIX}JensenShannonLoss"},
    "selective": {"_target_": f"{PREFIX}SelectiveDistillationLoss", "queue_size": 0},
    "top_one": {"_target_": f"{PREFIX}TopOneRankingLoss"},
}


def caching_config(teacher_path, folder, sources, *overrides):
    targets = [source.with_suffix(".en") for source in sources]
    sources, targets = (f"[{','.join(map(str, paths))}]" for paths in (sources, targets))
    data = [f"model.train_ds.src_file_name={sources}", f"model.train_ds.tgt_file_name={targets}"]
    teacher = [f"model.distillation.model_path={teacher_path}", f"model.distillation.teacher_cache={folder}"]
    small = ["cache.shard_pairs=20", "cache.tokens_in_batch=200", "cache.k=8"]
    return composed("cache_teacher", *data, *teacher, *small, *overrides)


def make_cache(teacher_path, folder, sources, *overrides, device="cpu"):
    cfg = caching_config(teacher_path, folder, sources, *overrides)
    check_caching(cfg)
    cache_teacher(caching_job(cfg), 0, 1, device)
    return folder


def make_cache_of_mix(teacher_path, folder, source, *overrides):
    """Writes a mix of a corpus and others to `text` in a folder, and its cache beside it."""
    cfg = caching_config(teacher_path, folder / "cache", [source], *overrides)
    check_caching(cfg)
    job = caching_job(cfg)
    (folder / "text").mkdir()
    mix_training_data(cfg.model, folder / "text")
    cache_teacher(job.reading(cfg.model.train_ds), 0, 1, "cpu")


@pytest.fixture(scope="module")
def whole_cache(teacher_path, corpus, tmp_path_factory):
    """All of each distribution."""
    folder = tmp_path_factory.mktemp("cache") / "whole"
    return make_cache(teacher_path, folder, [corpus / "train.de"], "cache.k=null", "cache.dtype=float32")


@pytest.fixture(scope="module")
def cut_cache(teacher_path, corpus, tmp_path_factory):
    """The eight most probable words of each distribution, in half precision."""
    return make_cache(teacher_path, tmp_path_factory.mktemp("cache") / "cut", [corpus / "train.de"])


@pytest.fixture
def distill(distillation_config, tmp_path):
    """Builds a distillation of word-level losses, from the teacher or from a cache."""

    def build(cache=None, temperature=1.0, losses=WORD_LEVEL, **distillation):
        config = OmegaConf.merge(distillation_config)
        config.distillation.update({"temperature": temperature, "distill_encoder": False, **distillation})
        config.distillation.loss = losses
        if cache:
            config.distillation.update({"model_path": None, "teacher_cache": str(cache)})
            config.distillation.setdefault("teacher_cache_tail", "uniform")
        return three_steps(config, tmp_path)

    return build


@pytest.mark.parametrize("tail", ["renormalize", "uniform"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_a_cache_of_all_words_gives_the_losses_and_gradients_of_the_teacher(distill, whole_cache, tail, temperature):
    losses = {name: node for name, node in WORD_LEVEL.items() if tail == "uniform" or name != "reverse"}
    online, _ = distill(None, temperature, losses)
    cached, _ = distill(whole_cache, temperature, losses, teacher_cache_tail=tail)
    cached.student.load_state_dict(online.student.state_dict())
    for batch in online.train_dataloader():
        values, gradient = losses_and_gradient(online.eval(), batch)
        cached_values, cached_gradient = losses_and_gradient(cached.eval(), batch)
        assert set(cached_values) == set(values) == {*losses, "student"}
        for name, value in values.items():
            torch.testing.assert_close(cached_values[name], value, rtol=1e-5, atol=1e-7)
        assert (gradient - cached_gradient).norm() < 1e-5 * gradient.norm()


@pytest.mark.parametrize("tail", ["renormalize", "uniform"])
def test_what_is_cut_off_is_made_up_for_by_the_tail_policy(distill, cut_cache, tail):
    online, _ = distill()
    cached, _ = distill(cut_cache, losses={"kl": WORD_LEVEL["kl"]}, teacher_cache_tail=tail)
    for batch in online.train_dataloader():
        registries = [
            registered(teacher, batch, "log_probs", "nll", temperature=temperature)
            for teacher, temperature in ((online.teacher, 1.0), (cached.teacher, 1.0), (cached.teacher, 2.0))
        ]
        mask = batch[-1].squeeze(0) != online.student.decoder_tokenizer.pad_id
        full, *kept = (registry.get(Role.TEACHER, "log_probs")[mask] for registry in registries)
        for found, temperature in zip(kept, (1.0, 2.0)):
            expected = top_k_of(full, 8, tail).tempered_log_probs(temperature)
            torch.testing.assert_close(found.exp(), expected.exp(), rtol=0.01, atol=1e-4)
        nll, cached_nll = (registry.get(Role.TEACHER, "nll")[mask] for registry in registries[:2])
        torch.testing.assert_close(cached_nll, nll, rtol=1e-3, atol=1e-3)


def test_a_training_needs_nothing_of_the_teacher_but_the_cache(distill, cut_cache, teacher_path, tmp_path):
    model, trainer = distill(cut_cache, losses={"kl": WORD_LEVEL["kl"]})
    trainer.fit(model)
    model.save_to(str(tmp_path / "student.nemo"))
    record = NemoArchive(tmp_path / "student.nemo").config.distilled_with
    cached = {"k": 8, "dtype": "float16", "precision": "float32"}
    sha256 = NemoArchive(teacher_path).sha256()
    assert record.teachers == [{"name": "teacher.nemo", "sha256": sha256, "cached": cached}]
    assert record.distillation.teacher_cache == str(cut_cache)


def test_a_student_without_tokenizers_takes_those_that_the_cache_keeps(distillation_config, cut_cache, tmp_path):
    own = distillation_config.encoder_tokenizer.tokenizer_model
    for side in ("encoder", "decoder"):
        distillation_config[f"{side}_tokenizer"].tokenizer_model = None
    distillation_config.distillation.update({"model_path": None, "teacher_cache": str(cut_cache)})
    complete_student(distillation_config, tmp_path)
    taken = distillation_config.encoder_tokenizer.tokenizer_model
    assert taken.startswith(str(tmp_path)) and Path(taken).read_bytes() == Path(own).read_bytes()


def test_several_data_sets_are_cached_whole_and_trained_on_mixed(distill, distillation_config, teacher_path, tmp_path):
    sources = [write_corpus(tmp_path, name, lines, seed=lines)[0] for name, lines in (("large", 40), ("small", 7))]
    folder = make_cache(teacher_path, tmp_path / "cache", sources)
    distillation_config.train_ds.src_file_name = [str(source) for source in sources]
    distillation_config.train_ds.tgt_file_name = [str(source.with_suffix(".en")) for source in sources]
    model, trainer = distill(folder, losses={"kl": WORD_LEVEL["kl"]})
    lines = {line for source in sources for line in source.read_text().splitlines()}
    assert model.teacher.cache.manifest["pairs"] == len(lines)
    trainer.fit(model)
    assert trainer.global_step == 3


def test_a_mix_is_trained_on_from_a_cache_of_its_corpora(distill, distillation_config, teacher_path, corpus, tmp_path):
    mix = {"pseudo": {"source": f"{corpus}/val.de", "target": f"{corpus}/val.en", "share": 1}, "real": {"share": 2}}
    overrides = [f"+model.distillation.mix.corpora.{name}={{{', '.join(f'{key}: {value}' for key, value in section.items())}}}" for name, section in mix.items()]  # fmt: skip
    make_cache_of_mix(teacher_path, tmp_path, corpus / "train.de", *overrides)
    distillation_config.train_ds.src_file_name = [str(corpus / "train.de")]
    distillation_config.train_ds.tgt_file_name = [str(corpus / "train.en")]
    distillation_config.distillation.mix = {"corpora": mix}
    mix_training_data(distillation_config, tmp_path / "text")
    model, trainer = distill(tmp_path / "cache", losses={"kl": WORD_LEVEL["kl"]})
    trainer.fit(model)
    assert trainer.global_step == 3


def test_a_pair_that_is_not_there_is_told_by_its_source(distill, cut_cache):
    model, _ = distill(cut_cache, losses={"kl": WORD_LEVEL["kl"]})
    batch = [tensor.squeeze(0).clone() for tensor in next(iter(model.train_dataloader()))]
    batch[-1][1, 0] += 1
    text = model.student.encoder_tokenizer.ids_to_text(batch[0][1][batch[1][1].bool()].tolist())
    with pytest.raises(DataError, match=f"does not hold the pair whose source is '{text}'"):
        model.distillation_losses(batch)


def test_missing_pairs_are_counted_before_the_training(distill, distillation_config, teacher_path, corpus, tmp_path):
    """The cache is of a mix, which cleans its lines of control characters, and the training reads them as they are."""
    for side, mark in (("de", "\x84"), ("en", "")):
        lines = (corpus / f"train.{side}").read_text().splitlines()
        (tmp_path / f"odd.{side}").write_text(
            "".join(f"{line}{mark * (number < 2)}\n" for number, line in enumerate(lines))
        )
    make_cache_of_mix(teacher_path, tmp_path, tmp_path / "odd.de", "+model.distillation.mix.corpora.real={share: 1}")
    distillation_config.train_ds.src_file_name = str(tmp_path / "odd.de")
    distillation_config.train_ds.tgt_file_name = str(tmp_path / "odd.en")
    with pytest.raises(
        ConfigurationError, match=r"cache lacks 2 of the \d+ pairs of model.train_ds, such as that with"
    ):
        distill(tmp_path / "cache", losses={"kl": WORD_LEVEL["kl"]})


def test_another_vocabulary_is_refused_without_the_script_too(
    distill, distillation_config, cut_cache, corpus, tmp_path
):
    other = train_sentencepiece(tmp_path / "other", corpus / "both.txt", vocab_size=50)
    for side in ("encoder", "decoder"):
        distillation_config[f"{side}_tokenizer"].tokenizer_model = str(other)
    with pytest.raises(ConfigurationError, match="the teacher's"):
        distill(cut_cache)


def test_what_the_cache_lacks_is_refused_without_the_script_too(distill, cut_cache):
    hidden = {"_target_": f"{PREFIX}MeanSquaredErrorLoss", "hidden_states": "decoder_hidden_states"}
    with pytest.raises(ConfigurationError, match="reads the teacher's 'decoder_hidden_states', but a teacher cache"):
        distill(cut_cache, losses={"hidden": hidden})


def test_words_that_the_cache_lacks_cannot_be_ranked(distill, cut_cache):
    ranking = {"top_one": WORD_LEVEL["top_one"] | {"k": 9}}
    with pytest.raises(ConfigurationError, match="ranks the teacher's 9 best words.*stores only 8"):
        distill(cut_cache, losses=ranking)


def test_a_finished_cache_is_compared_with_its_checksums(teacher_path, corpus, tmp_path):
    folder = make_cache(teacher_path, tmp_path / "cache", [corpus / "train.de"])
    make_cache(teacher_path, folder, [corpus / "train.de"])
    with (folder / "shards" / "shard-000001.tokens.npy").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"?")
    with pytest.raises(DataError, match="shard-000001.tokens.npy' does not match"):
        make_cache(teacher_path, folder, [corpus / "train.de"])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["cache.k=0"], "cache.k=0: must be null or a whole number of at least 1."),
        (["cache.k=100000"], "words; null keeps all of them."),
        (["cache.dtype=int8"], "cache.dtype=int8: must be one of float16, float32."),
        (["cache.precision=half"], "cache.precision=half: must be one of float32, bfloat16, auto."),
        (["+cache.top_k=4"], "cache has the unknown key 'top_k'"),
        (["model.distillation.teacher_cache=null"], "model.distillation.teacher_cache has no value"),
        (["model.distillation.model_path=[a.nemo,b.nemo]"], "must be one teacher's .nemo"),
        (["model.distillation.model_path=null"], "model.distillation.model_path=None: must be one teacher's .nemo"),
        (["model.train_ds.src_file_name=nowhere.de"], "which does not exist"),
        (["model.preproc_out_dir=out"], "model.preproc_out_dir: a cache is of data that is there"),
    ],
)
def test_a_mistake_in_a_caching_job_is_told(teacher_path, corpus, tmp_path, overrides, sentence):
    with pytest.raises(ConfigurationError) as error:
        check_caching(caching_config(teacher_path, tmp_path / "cache", [corpus / "train.de"], *overrides))
    assert any(sentence in problem for problem in error.value.problems), error.value.problems


def test_a_job_without_an_accelerator_is_accepted(teacher_path, corpus, tmp_path):
    check_caching(caching_config(teacher_path, tmp_path / "cache", [corpus / "train.de"], "~trainer.accelerator"))


def test_a_finished_cache_of_other_settings_can_be_replaced(teacher_path, corpus, tmp_path):
    folder = make_cache(teacher_path, tmp_path / "cache", [corpus / "val.de"])
    make_cache(teacher_path, folder, [corpus / "val.de"], "cache.k=4", "cache.overwrite=true")
    assert read_manifest(folder)["settings"]["k"] == 4


def test_a_cache_of_another_mix_of_the_same_text_is_told(teacher_path, corpus, tmp_path):
    pseudo = [f"model.distillation.mix.corpora.pseudo.{key}={corpus}/val.de" for key in ("source", "target")]
    low_data = ["distillation=low_data", *pseudo]
    folder = make_cache(teacher_path, tmp_path / "cache", [corpus / "train.de"], *low_data)
    more = "model.distillation.mix.corpora.real.fraction=0.9"
    with pytest.raises(ConfigurationError, match="mix.corpora.real.fraction was 0.05 and is 0.9"):
        check_caching(caching_config(teacher_path, folder, [corpus / "train.de"], *low_data, more))


def test_a_cache_of_other_settings_is_told_before_the_teacher_is_loaded(teacher_path, corpus, cut_cache):
    with pytest.raises(ConfigurationError, match="k was 8 and is 4; give another folder, or start over with"):
        check_caching(caching_config(teacher_path, cut_cache, [corpus / "train.de"], "cache.k=4"))
