"""Multilingual models of NeMo: many-to-one, and one-to-many with a language tag in front of the source."""

from types import SimpleNamespace

import pytest
import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import OmegaConf
from sacrebleu import corpus_bleu

from nemo_distill import ConfigurationError, DistillableMTEncDecModel
from nemo_distill.commands.cache_teacher import cache_teacher, caching_job, check_caching
from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.core.registry import Role
from nemo_distill.decoding.engines import engine_problems, load_engine
from nemo_distill.decoding.nemo_engines import CachedEngine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.models.student_config import complete_student
from tests.conftest import tiny_config, write_corpus
from tests.decoding.conftest import peaked
from tests.models.conftest import distillation_of
from tests.models.test_cached_teacher import caching_config

LEGACY = {f"{side}_tokenizer": {"sentencepiece_legacy": True} for side in ("encoder", "decoder")}
MANY_TO_ONE = {"multilingual": True, "src_language": ["de", "nl"], "tgt_language": "en"}
ONE_TO_MANY = {"multilingual": True, "src_language": "de", "tgt_language": ["en", "fr"], **LEGACY}
PREFIX = "nemo_distill.losses."
EVERYWHERE = {
    "kl": {"_target_": f"{PREFIX}KLDivergenceLoss"},
    "js": {"_target_": f"{PREFIX}JensenShannonLoss"},
    "selective": {"_target_": f"{PREFIX}SelectiveDistillationLoss", "queue_size": 0},
    "cosine_encoder": {"_target_": f"{PREFIX}CosineEmbeddingLoss", "hidden_states": "encoder_hidden_states"},
    "cosine": {"_target_": f"{PREFIX}CosineEmbeddingLoss"},
    "layers": {"_target_": f"{PREFIX}MeanSquaredErrorLoss", "hidden_states": "encoder_layers"},
    "cross": {"_target_": f"{PREFIX}AttentionMapsLoss"},
    "self": {"_target_": f"{PREFIX}AttentionMapsLoss", "attention_maps": "encoder_self_attention"},
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Training and validation text of two languages."""
    folder = tmp_path_factory.mktemp("languages")
    for seed, name in enumerate(("train", "train2", "val", "val2")):
        write_corpus(folder, name, 24, seed)
    return folder


@pytest.fixture(scope="module")
def teachers(tokenizer, tmp_path_factory):
    """Paths of multilingual teachers whose outputs differ, and of a bilingual one."""
    folder = tmp_path_factory.mktemp("teachers")
    size = {"pre_ln": True, "num_layers": 2}
    for name, kind in (("many_to_one", MANY_TO_ONE), ("one_to_many", ONE_TO_MANY), ("bilingual", {})):
        model = DistillableMTEncDecModel(OmegaConf.merge(tiny_config(tokenizer, seed_size=size), kind))
        peaked(model, seed=3, eos_bias=7.0).save_to(str(folder / f"{name}.nemo"))
    return {path.stem: path for path in folder.iterdir()}


def data(corpora, *names):
    """The data sections of files in that order."""
    return {
        section: {
            "src_file_name": [str(corpora / f"{base}{name}.de") for name in names],
            "tgt_file_name": [str(corpora / f"{base}{name}.en") for name in names],
            "num_workers": 0,
            "tokens_in_batch": 128,
        }
        for section, base in (("train_ds", "train"), ("validation_ds", "val"))
    }


@pytest.fixture
def distillation(distillation_config, corpora, tmp_path):
    """Completes the config of a student, as `distill` does, and builds the distillation."""

    def build(teacher, kind, names=("", "2"), losses=EVERYWHERE, **more):
        config = OmegaConf.merge(distillation_config, data(corpora, *names), kind)
        for side in ("encoder", "decoder"):
            config[f"{side}_tokenizer"].tokenizer_model = None
        config.distillation.update({"model_path": str(teacher), "distill_encoder": False, "temperature": 1.0, **more})
        config.distillation.loss = losses
        complete_student(config, tmp_path)
        model = distillation_of(config, tmp_path)
        return model, model.trainer

    return build


BILINGUAL = {"multilingual": False, "src_language": "de", "tgt_language": "fr"}


@pytest.mark.parametrize(
    "teacher, kind, names",
    [
        ("many_to_one", MANY_TO_ONE, ("", "2")),
        ("many_to_one", {**BILINGUAL, "src_language": "nl", "tgt_language": "en"}, ("",)),
        ("one_to_many", ONE_TO_MANY, ("", "2")),
        ("one_to_many", BILINGUAL, ("",)),
    ],
)
def test_students_learn_from_multilingual_teachers_and_are_validated(distillation, teachers, teacher, kind, names):
    model, trainer = distillation(teachers[teacher], kind, names, student_train_loss_weight=0.5)
    trainer.fit(model)
    assert trainer.global_step == 2
    assert set(model.step_losses) == {*EVERYWHERE, "student"}
    assert all(torch.isfinite(value) for value in model.step_losses.values())
    trainer.validate(model, verbose=False)
    assert {"val_loss", "val_sacreBLEU"} <= set(trainer.callback_metrics)
    assert ("val_loss_val2" in trainer.callback_metrics) == (len(names) == 2)


def test_a_bilingual_student_learns_what_its_teacher_says_with_the_tag_of_its_language(distillation, teachers):
    model, _ = distillation(teachers["one_to_many"], BILINGUAL, ("",), losses={"kl": EVERYWHERE["kl"]})
    plain = MTEncDecModel.restore_from(str(teachers["one_to_many"]), map_location="cpu").eval()
    words = model.student.decoder_vocab_size
    assert model.student.decoder_tokenizer.vocab_size < plain.decoder_tokenizer.vocab_size
    for batch in model.train_dataloader():
        src, src_mask, tgt, tgt_mask, labels = (tensor.squeeze(0) for tensor in batch)
        tag = torch.full((len(src), 1), plain.multilingual_lang_to_id["fr"])
        with torch.no_grad():
            expected = plain(torch.cat((tag, src), 1), torch.cat((tag > 0, src_mask.bool()), 1).int(), tgt, tgt_mask)
            expected = expected[..., :words].log_softmax(dim=-1)  # the student's words
            without = plain(src, src_mask, tgt, tgt_mask)[..., :words].log_softmax(dim=-1)
            ours = model.student.eval()(src, src_mask, tgt, tgt_mask)
        mask = labels != model.student.decoder_tokenizer.pad_id
        kl = (expected.exp() * (expected - ours)).sum(-1)[mask].mean()
        loss = model.distillation_losses(batch)["kl"]
        torch.testing.assert_close(loss, kl, rtol=1e-4, atol=1e-6)
        assert not torch.allclose(without, expected, atol=1e-2)  # the tag matters


@pytest.mark.parametrize("kind, names", [(ONE_TO_MANY, ("", "2")), (BILINGUAL, ("",))])
def test_a_student_translates_for_its_training_into_the_language_that_its_tag_forces(
    distillation, teachers, kind, names
):
    more = {"student_train_loss_weight": 0.0, "iterations": 2}
    more["on_policy"] = {"share": 1.0, "method": "greedy", "max_delta": 4}
    losses = {name: node for name, node in EVERYWHERE.items() if name != "selective"}
    model, trainer = distillation(teachers["one_to_many"], kind, names, losses, **more)
    trainer.fit(model)
    assert set(model.step_losses) == set(losses)
    assert all(torch.isfinite(value) for value in model.step_losses.values())
    student = model.student.eval()
    student.log_through(SimpleNamespace(log=lambda *args, **kwargs: None))
    settings = SearchSettings(beam_size=1, length_penalty=0.0, max_delta=4 + (kind is ONE_TO_MANY))
    for batch, _ in zip(model.train_dataloader(), range(6)):
        src_ids, _, tgt_ids, _, labels = model.step_inputs(batch, step=0)[0]
        assert torch.equal(src_ids, batch[0].squeeze(0)) and set(tgt_ids[:, 0].tolist()) == {1}
        tags = student.multilingual_lang_to_id if kind is ONE_TO_MANY else {}
        for source, found in zip(src_ids.tolist(), labels.tolist()):
            language = next((name for name, tag in tags.items() if source[0] == tag), None)
            assert bool(language) == (kind is ONE_TO_MANY)
            text = student.encoder_tokenizer.ids_to_text([i for i in source[bool(language) :] if i > 3])
            (expected,) = CachedEngine([student], target_language=language).translate([text], settings)
            words = [i for i in found if i not in (2, 3)]
            assert student.decoder_tokenizer.ids_to_text(words) == expected.text


def test_source_positions_of_a_tagged_teacher_are_those_of_its_student(distillation, teachers):
    from nemo_distill.core.registry import DistillationRegistry

    model, _ = distillation(teachers["one_to_many"], BILINGUAL, ("",))
    names = ("encoder_hidden_states", "encoder_layers", "encoder_self_attention", "decoder_cross_attention")
    for batch in model.train_dataloader():
        registry = DistillationRegistry([(role, name) for role in Role for name in names])
        model.teachers.register(batch, registry)
        with model.student.distillation_pass(Role.STUDENT, registry):
            model.student.eval().distillation_forward(batch)
        assert registry.mask("encoder_hidden_states").shape == batch[0].shape[-2:]
        for name in names:
            theirs, ours = (registry.get(role, name) for role in (Role.TEACHER, Role.STUDENT))
            theirs, ours = ((found,) if torch.is_tensor(found) else found for found in (theirs, ours))
            assert {tensor.shape for tensor in theirs} == {ours[0].shape}
            if "attention" in name:
                sums = torch.stack([maps.sum(-1) for maps in theirs])
                torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize(
    "teacher, kind, names, tags",
    [
        ("many_to_one", MANY_TO_ONE, ("", "2"), None),
        ("one_to_many", ONE_TO_MANY, ("", "2"), ["en", "fr"]),
        ("one_to_many", BILINGUAL, ("",), "fr"),
    ],
)
def test_a_cache_teaches_what_the_teacher_would(distillation, teachers, corpora, tmp_path, teacher, kind, names, tags):
    sources = [corpora / f"train{name}.de" for name in names]
    languages = [
        f"model.multilingual={kind['multilingual']}",
        *(f"model.{key}={value}" for key, value in kind.items() if key.endswith("_language")),
    ]
    cfg = caching_config(
        teachers[teacher], tmp_path / "cache", sources, "cache.k=null", "cache.dtype=float32", *languages
    )
    check_caching(cfg)
    assert caching_job(cfg).folder.settings.get("tags") == tags
    cache_teacher(caching_job(cfg), 0, 1, "cpu")
    word_level = {name: EVERYWHERE[name] for name in ("kl", "js")}
    online, _ = distillation(teachers[teacher], kind, names, word_level)
    cached, _ = distillation(
        teachers[teacher], kind, names, word_level, teacher_cache=str(tmp_path / "cache"), teacher_cache_tail="uniform"
    )
    cached.student.load_state_dict(online.student.state_dict())
    for number, batch in enumerate(online.train_dataloader()):
        ours, theirs = (model.eval().distillation_losses(batch) for model in (cached, online))
        for name in word_level:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)
        if number == 8:  # sampled from several data sets, they never end
            break
    if tags == "fr":
        with pytest.raises(ConfigurationError, match=r"model.tgt_language=en.*made for tgt_language=fr"):
            distillation(teachers[teacher], {**kind, "tgt_language": "en"}, names, word_level,
                         teacher_cache=str(tmp_path / "cache"), teacher_cache_tail="uniform")  # fmt: skip


@pytest.mark.parametrize("engine", ["nemo_distill", "nemo"])
def test_a_one_to_many_model_translates_as_nemo_does_with_the_tag(teachers, engine):
    settings = SearchSettings(beam_size=2, length_penalty=0.0, max_delta=5)
    plain = MTEncDecModel.restore_from(str(teachers["one_to_many"]), map_location="cpu").eval()
    # NeMo counts the tag as a token of the source, so a limit of 4 is one of 5.
    plain.beam_search.beam_size, plain.beam_search.len_pen, plain.beam_search.max_delta_len = 2, 0.0, 4
    texts = {}
    for language in ("en", "fr"):
        loaded = load_engine(engine, [teachers["one_to_many"]], target_language=language)
        texts[language] = [found.text for found in loaded.translate(["der Hund sieht", "rot Haus"], settings)]
        found = [plain.translate([line], "de", language)[0] for line in ("der Hund sieht", "rot Haus")]
        assert texts[language] == found and all(found)
    assert texts["en"] != texts["fr"]


def test_references_of_a_multilingual_model_have_no_special_tokens(distillation, teachers, monkeypatch, corpora):
    from nemo_distill.models import named_evaluation

    model, trainer = distillation(teachers["one_to_many"], ONE_TO_MANY, losses={"kl": EVERYWHERE["kl"]})
    scored = []
    monkeypatch.setattr(
        named_evaluation,
        "corpus_bleu",
        lambda texts, references, **_: scored.append(references[0]) or corpus_bleu(texts, references),
    )
    trainer.validate(model, verbose=False)
    for name, references in zip(("val", "val2"), scored, strict=True):
        assert sorted(references) == sorted((corpora / f"{name}.en").read_text().splitlines())


def test_a_bilingual_student_starts_from_the_words_of_its_teacher_without_the_tags(distillation, teachers):
    size = {"num_layers": 1, "pre_ln": True}
    kind = {**BILINGUAL, "encoder": size, "decoder": size}
    model, _ = distillation(teachers["one_to_many"], kind, ("",), distilbert_initialization=True)
    words = model.student.decoder_vocab_size
    assert words == model.teacher.decoder_vocab_size - 2
    for side in ("encoder", "decoder"):
        ours, theirs = (getattr(one, side).embedding.token_embedding.weight for one in (model.student, model.teacher))
        assert torch.equal(ours, theirs[:words])
    ours, theirs = (one.log_softmax.mlp.layer0.bias for one in (model.student, model.teacher))
    assert torch.equal(ours, theirs[:words])


def test_a_many_to_one_model_needs_its_source_language(teachers):
    path = teachers["many_to_one"]
    (missing,) = engine_problems("nemo_distill", [path])
    assert "source_language" in missing and "de, nl" in missing
    (wrong,) = engine_problems("nemo_distill", [path], source_language="fr")
    assert "source_language=fr" in wrong and "de, nl" in wrong
    assert not engine_problems("nemo_distill", [path], source_language="nl")
    translated = load_engine("nemo_distill", [path], source_language="nl").translate(["der Hund"], SearchSettings())
    assert len(translated) == 1


def test_a_multilingual_student_is_restored_by_plain_nemo_and_translates(distillation, teachers, tmp_path):
    model, _ = distillation(teachers["one_to_many"], ONE_TO_MANY, losses={"kl": EVERYWHERE["kl"]})
    model.save_to(str(tmp_path / "student.nemo"))
    restored = MTEncDecModel.restore_from(str(tmp_path / "student.nemo"), map_location="cpu")
    assert restored.multilingual_ids == model.student.multilingual_ids
    assert len(restored.translate(["der Hund"], "de", "fr")) == 1


def test_teacher_and_student_of_unlike_languages_are_refused_before_nemo_is_imported(job, teachers, corpora):
    def said(teacher, *overrides):
        cfg = job(f"model.distillation.model_path={teachers[teacher]}", *overrides)
        with pytest.raises(ConfigurationError) as error:
            check_distillation_job(cfg)
        return " ".join(error.value.problems)

    assert "model.tgt_language=None: must be one of en, fr" in said("one_to_many")
    assert "model.tgt_language=ignore: must be one of en, fr" in said("one_to_many", "model.tgt_language=ignore")
    assert "model.src_language=pl: must be one of de, nl" in said("many_to_one", "model.src_language=pl")
    assert "model.multilingual=true, but the teacher is bilingual" in said(
        "bilingual", "model.multilingual=true", "model.tgt_language=[en,fr]",
        *(f"model.{side}_tokenizer.sentencepiece_legacy=true" for side in ("encoder", "decoder")),
        *(f"model.{section}.{side}_file_name=[{corpora}/val.{end},{corpora}/val2.{end}]"
          for section in ("train_ds", "validation_ds") for side, end in (("src", "de"), ("tgt", "en"))),
    )  # fmt: skip
    assert "has 1 files and model.tgt_language has 2 languages" in said(
        "one_to_many", "model.multilingual=true", "~model.validation_ds"
    )
    assert "model.distillation.share_encoder" in said(
        "one_to_many", "model.tgt_language=fr", "model.distillation.share_encoder=true", "student=self",
        "~model.distillation.loss.cosine",
    )  # fmt: skip
