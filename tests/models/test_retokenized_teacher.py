"""A student with tokenizers of its own learns from a teacher that has others."""

import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel
from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.config.errors import DataError
from nemo_distill.core.registry import DistillationRegistry, Role
from nemo_distill.losses import KLDivergenceLoss, SelectiveDistillationLoss, SortedProbabilitiesLoss
from nemo_distill.models.retokenized_teacher import RetokenizedTeacher, TranslationPieceTeacher, pieces_of
from nemo_distill.nemo_files.archive import NemoArchive
from tests.conftest import tiny_config, train_sentencepiece
from tests.models.conftest import TINY, losses_and_gradient, problems, registered, three_steps, with_tokenizers
from tests.models.test_cached_teacher import PREFIX, WORD_LEVEL, make_cache

ACROSS = {"across_vocabularies": True, "student_train_loss_weight": 0.5, "distill_encoder": False}
SPANS = {"spans": {"_target_": f"{PREFIX}SpanLikelihoodLoss"}}
SORTED = {"sorted": {"_target_": f"{PREFIX}SortedProbabilitiesLoss"}}


@pytest.fixture(scope="module")
def small(corpus, tmp_path_factory):
    """A tokenizer whose pieces are shorter than the teacher's; its special ids are others too."""
    return train_sentencepiece(tmp_path_factory.mktemp("small") / "small", corpus / "both.txt", 40, pad_id=0, unk_id=3)


@pytest.fixture
def tokenizers(small):
    return with_tokenizers(small)


@pytest.fixture
def distill(distillation_config, small, tmp_path):
    """Builds a distillation across vocabularies."""

    def build(losses=WORD_LEVEL, own=small, trained_path=None, **distillation):
        config = OmegaConf.merge(distillation_config)
        config.distillation.update({"temperature": 1.0, **ACROSS, **distillation})
        config.distillation.loss = losses
        for side in ("encoder", "decoder"):
            config[f"{side}_tokenizer"].tokenizer_model = str(own)
        return three_steps(config, tmp_path)

    return build


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_with_the_same_tokenizer_it_is_the_ordinary_distillation(distill, tokenizer, fused, temperature):
    model, _ = distill(own=tokenizer, across_vocabularies=False, fused=fused, temperature=temperature)
    model.eval()
    for batch in model.train_dataloader():
        expected, gradient = losses_and_gradient(model, batch)
        teacher = model.teachers.models[0]
        tokenizers = model.student.encoder_tokenizer, model.student.decoder_tokenizer
        model.teachers.models = [RetokenizedTeacher(TranslationPieceTeacher(teacher), *tokenizers)]
        found, other = losses_and_gradient(model, batch)
        model.teachers.models = [teacher]
        assert set(found) == set(expected) == {*WORD_LEVEL, "student"}
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
        assert (gradient - other).norm() < 1e-5 * gradient.norm()


def test_the_teacher_reads_the_text_of_the_batch_in_its_own_pieces(distill, teacher_path):
    model, _ = distill()
    batch = next(iter(model.train_dataloader()))
    src_ids, _, _, _, labels = (tensor.squeeze(0) for tensor in batch)
    teacher, student = model.teacher.model, model.student
    registry = registered(model.teacher, batch, "log_probs", "spans")
    log_probs, (spans, span_of) = (registry.get(Role.TEACHER, name) for name in ("log_probs", "spans"))
    own, theirs = pieces_of(student.decoder_tokenizer), pieces_of(teacher.decoder_tokenizer)
    firsts = [own.first_of(surface) for surface in theirs.surfaces]
    for other, name in zip((0, 1, 2, 3), ("unk", "bos", "eos", "pad")):
        firsts[other] = own.special_ids[name]
    for row in range(len(labels)):
        source, target = (
            side.ids_to_text([index for index in ids.tolist() if index not in (side.pad_id, side.bos_id, side.eos_id)])
            for side, ids in ((student.encoder_tokenizer, src_ids[row]), (student.decoder_tokenizer, labels[row]))
        )
        ids = teacher.decoder_tokenizer.text_to_ids(target)
        source_ids = torch.tensor([[1, *teacher.encoder_tokenizer.text_to_ids(source), 2]])
        tgt_ids = torch.tensor([[1, *ids]])
        said = teacher(source_ids, torch.ones_like(source_ids), tgt_ids, torch.ones_like(tgt_ids))[0]  # (T', V')
        starts = [sum(len(theirs.surfaces[index]) for index in ids[:end]) for end in range(len(ids) + 1)]
        real = [index for index in labels[row].tolist() if index != student.decoder_tokenizer.pad_id]
        before = -1
        for position in range(len(real)):
            start = sum(len(own.surfaces[index]) for index in real[:position])
            there = start in starts
            assert span_of[row, position] == before + there
            before += there
            if not registry.pairs[row, position]:
                continue
            assert there
            # By hand: the probability of a piece is that of all pieces that its text begins.
            place = said[starts.index(start)].exp()
            expected = torch.tensor([place[[first == piece for first in firsts]].sum() for piece in range(40)])
            ratio = log_probs[row, position].exp()[expected > 0] / expected[expected > 0]
            assert ratio.max() - ratio.min() < 1e-4 and 1 - 1e-4 < ratio[0] < 1.1  # the tail is small
        pieces = torch.tensor([*ids, 2])
        expected = said.gather(-1, pieces.unsqueeze(-1)).sum()
        torch.testing.assert_close(spans[row].sum(), expected, rtol=1e-4, atol=1e-4)
    known = registry.pairs[labels != student.decoder_tokenizer.pad_id].float().mean()
    assert 0.3 < known < 1
    torch.testing.assert_close(log_probs.exp().sum(dim=-1), torch.ones(log_probs.shape[:2]))


def test_a_translation_that_was_cut_is_paired_up_to_its_last_piece(distill):
    model, _ = distill()
    src_ids, src_mask, _, _, labels = (tensor.squeeze(0) for tensor in next(iter(model.train_dataloader())))
    pad_id, bos_id, eos_id = (getattr(model.student.decoder_tokenizer, f"{name}_id") for name in ("pad", "bos", "eos"))
    cut = labels.masked_fill(labels == eos_id, pad_id)[:, :-1]  # of the longest row, the end alone is missing
    tgt_ids = torch.cat((torch.full_like(cut[:, :1], bos_id), cut[:, :-1]), dim=1)
    batch = [src_ids, src_mask, tgt_ids, torch.ones_like(tgt_ids), cut]
    registry = registered(model.teacher, batch, "log_probs", "spans")
    assert registry.pairs.shape == cut.shape and registry.pairs.any()


def test_a_start_that_the_student_wrote_shifts_no_position(distill):
    """Its own translations may hold one, which is no part of the text."""
    model, _ = distill()
    src_ids, src_mask, *_, labels = (tensor.squeeze(0) for tensor in next(iter(model.train_dataloader())))
    pad_id, bos_id = model.student.decoder_tokenizer.pad_id, model.student.decoder_tokenizer.bos_id
    found = []
    for place in (None, 0, 2):
        written = labels
        if place is not None:
            written = torch.cat((labels[:, :place], torch.full_like(labels[:, :1], bos_id), labels[:, place:]), dim=1)
        inputs = torch.cat((torch.full_like(written[:, :1], bos_id), written[:, :-1]), dim=1)
        batch = [src_ids, src_mask, inputs, inputs != pad_id, written]
        registry = registered(model.teacher, batch, "log_probs", "spans")
        kept = [index for index in range(written.shape[1]) if index != place]
        log_probs, (spans, span_of) = (registry.get(Role.TEACHER, name) for name in ("log_probs", "spans"))
        found.append((registry.pairs[:, kept], log_probs[:, kept][registry.pairs[:, kept]], spans, span_of[:, kept]))
        assert place is None or not registry.pairs[:, place].any()
    for other in found[1:]:
        for expected, tensor in zip(found[0], other):
            torch.testing.assert_close(tensor, expected)


def test_the_teachers_own_pieces_have_the_temperature_of_the_step(distill):
    model, _ = distill(SORTED, temperature=2.0)
    batch = next(iter(model.train_dataloader()))
    teacher = model.teacher.model
    registry = registered(model.teacher, batch, "log_probs", "own_pieces", temperature=2.0)
    own, real = registry.get(Role.TEACHER, "own_pieces")
    target = model.student.decoder_tokenizer.ids_to_text([i for i in batch[-1].squeeze(0)[0].tolist() if i > 3])
    ids = teacher.decoder_tokenizer.text_to_ids(target)
    assert real[0].sum() == len(ids) + 1
    torch.testing.assert_close(own.exp().sum(dim=-1), torch.ones(own.shape[:2]))
    registry = registered(model.teacher, batch, "own_pieces")
    (untempered, _) = registry.get(Role.TEACHER, "own_pieces")
    torch.testing.assert_close(own, (untempered / 2).log_softmax(dim=-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_fused_and_plain_losses_agree(distill, temperature):
    model, _ = distill(WORD_LEVEL | SPANS | SORTED, temperature=temperature)
    model.eval()
    batch = next(iter(model.train_dataloader()))
    fused, gradient = losses_and_gradient(model, batch)
    model.fused = False
    plain, other = losses_and_gradient(model, batch)
    assert set(fused) == set(plain) == {*WORD_LEVEL, *SPANS, *SORTED, "student"}
    for name, value in plain.items():
        torch.testing.assert_close(fused[name], value, rtol=1e-5, atol=1e-6)
    assert (gradient - other).norm() < 1e-5 * gradient.norm()


def test_positions_that_the_teacher_lacks_count_in_no_loss_on_words(distill):
    selective = {"selective": {"_target_": f"{PREFIX}SelectiveDistillationLoss", "queue_size": 0}}
    model, _ = distill({"kl": WORD_LEVEL["kl"]} | selective | SORTED)
    model.eval()
    batch = [tensor.squeeze(0) for tensor in next(iter(model.train_dataloader()))]
    found = model.distillation_losses(batch)
    registry = registered(model.teacher, batch, "log_probs", "own_pieces")
    student, labels, real = model.student(*batch[:4]), batch[-1], batch[-1] != model.student.decoder_tokenizer.pad_id
    words = {"student_log_probs": student, "teacher_log_probs": registry.get(Role.TEACHER, "log_probs")}
    paired, nll = real & registry.pairs, -student.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    assert 0 < paired.sum() < real.sum()
    expected = {
        "kl": KLDivergenceLoss()(**words, mask=paired),
        "selective": SelectiveDistillationLoss(queue_size=0)(**words, student_nll=nll, mask=paired),
        "sorted": SortedProbabilitiesLoss()(registry.get(Role.TEACHER, "own_pieces"), student, real),
        "student": model.student.loss_fn(log_probs=student, labels=labels),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_student_is_trained_and_saved(distill, small, tmp_path):
    model, trainer = distill({"kl": WORD_LEVEL["kl"]} | SPANS, teacher_precision="bfloat16")
    before = {name: weight.clone() for name, weight in model.student.state_dict().items()}
    trainer.fit(model)
    assert any((weight != before[name]).any() for name, weight in model.student.state_dict().items())
    model.save_to(str(tmp_path / "student.nemo"))
    config = NemoArchive(tmp_path / "student.nemo").config
    assert config.distilled_with.distillation.across_vocabularies
    assert model.student.decoder_tokenizer.vocab_size == 40 and model.teacher_parameters > 0


def test_teachers_of_other_and_of_the_same_pieces_are_averaged(distill, teacher_path, small, tmp_path):
    torch.manual_seed(5)
    DistillableMTEncDecModel(tiny_config(small)).save_to(str(tmp_path / "same.nemo"))
    paths = [str(teacher_path), str(tmp_path / "same.nemo")]
    model, _ = distill({"kl": WORD_LEVEL["kl"]}, model_path=paths)
    assert len(model.teachers) == 2
    model.eval()
    batch = next(iter(model.train_dataloader()))
    fused = model.distillation_losses(batch)
    model.fused = False
    torch.testing.assert_close(model.distillation_losses(batch)["kl"], fused["kl"], rtol=1e-5, atol=1e-6)
    registry = DistillationRegistry([(Role.TEACHER, "log_probs")])
    model.teachers.register(batch, registry)  # only the first teacher lacks positions
    pairs = registered(model.teacher, batch, "log_probs").pairs
    assert torch.equal(registry.pairs, pairs) and not pairs.all()


def test_a_youtokentome_student_learns_from_a_sentencepiece_teacher(distill, yttm_tokenizer, distillation_config):
    for side in ("encoder", "decoder"):
        distillation_config[f"{side}_tokenizer"].update({"library": "yttm", "bpe_dropout": 0.3})
    model, trainer = distill({"kl": WORD_LEVEL["kl"]} | SPANS, own=yttm_tokenizer)
    batch = next(iter(model.train_dataloader()))
    real = batch[-1].squeeze(0) != model.student.decoder_tokenizer.pad_id
    pairs = registered(model.teacher, batch, "log_probs").pairs[real]
    # youtokentome's dropout cannot be seeded, so that the share differs from run to run.
    assert pairs.any() and not pairs.all()
    trainer.fit(model)
    assert all(value.isfinite() and value > 0 for value in model.step_losses.values())


def test_a_teacher_with_language_tags_reads_the_tag_in_front_of_its_own_pieces(
    distill, distillation_config, tokenizer, tmp_path
):
    torch.manual_seed(3)
    legacy = {f"{side}_tokenizer": {"sentencepiece_legacy": True} for side in ("encoder", "decoder")}
    tags = {"multilingual": True, "src_language": "de", "tgt_language": ["en", "fr"], **legacy}
    tagged = DistillableMTEncDecModel(OmegaConf.merge(tiny_config(tokenizer), tags)).eval()
    tagged.save_to(str(tmp_path / "tagged.nemo"))
    distillation_config.update({"src_language": "de", "tgt_language": "fr"})
    model, _ = distill({"kl": WORD_LEVEL["kl"]}, model_path=str(tmp_path / "tagged.nemo"))
    teacher = model.teacher.model
    assert teacher.language_tag.index == teacher.multilingual_lang_to_id["fr"]
    registry = registered(model.teacher, next(iter(model.train_dataloader())), "log_probs")
    log_probs = registry.get(Role.TEACHER, "log_probs")
    assert log_probs.shape[-1] == 40 and registry.pairs.any()
    torch.testing.assert_close(log_probs.exp().sum(dim=-1), torch.ones(log_probs.shape[:2]))


def test_a_batch_that_is_too_long_for_the_teachers_learned_positions_is_told(distill, tokenizer, tmp_path):
    short = {"learn_positional_encodings": True, "max_sequence_length": 6}
    DistillableMTEncDecModel(tiny_config(tokenizer, seed_size=short)).save_to(str(tmp_path / "short.nemo"))
    model, _ = distill({"kl": WORD_LEVEL["kl"]}, model_path=str(tmp_path / "short.nemo"))
    with pytest.raises(DataError, match="learned only 6 positions"):
        for batch in model.train_dataloader():
            model.distillation_losses(batch)


@pytest.fixture(scope="module")
def cache(teacher_path, corpus, small, tmp_path_factory):
    """All of each distribution over the pieces of the small tokenizer."""
    across = ["model.distillation.across_vocabularies=true", "model.distillation.student_train_loss_weight=0.5"]
    whole = ["cache.k=null", "cache.dtype=float32"]
    folder = tmp_path_factory.mktemp("cache") / "across"
    return make_cache(teacher_path, folder, [corpus / "train.de"], *with_tokenizers(small), *across, *whole)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
def test_a_cache_gives_what_the_teacher_gives(distill, cache, temperature, fused):
    online, _ = distill(temperature=temperature, fused=fused)
    given = {"model_path": None, "teacher_cache": str(cache), "teacher_cache_tail": "uniform"}
    cached, trainer = distill(temperature=temperature, fused=fused, **given)
    cached.student.load_state_dict(online.student.state_dict())
    for batch in online.train_dataloader():
        expected, gradient = losses_and_gradient(online.eval(), batch)
        found, other = losses_and_gradient(cached.eval(), batch)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
        assert (gradient - other).norm() < 1e-4 * gradient.norm()
    trainer.fit(cached)
    assert trainer.global_step == 3


def test_a_cache_for_other_tokenizers_is_refused(job, cache, tokenizer, tokenizers):
    given = [
        f"model.distillation.teacher_cache={cache}",
        "model.distillation.model_path=null",
        "distillation=word_level",
    ]
    across = "model.distillation.across_vocabularies=true"
    check_distillation_job(job(*given, *tokenizers, across, *TINY))
    assert any(
        "across_vocabularies=false" in one for one in problems(check_distillation_job, job(*given, *tokenizers))
    )
    found = problems(check_distillation_job, job(*given, *with_tokenizers(tokenizer), across))
    assert any("model.decoder_tokenizer.tokenizer_model" in one and "another tokenizer" in one for one in found)


def test_a_plain_cache_is_refused_across_vocabularies(job, teacher_path, corpus, tokenizers, tmp_path):
    plain = make_cache(teacher_path, tmp_path / "plain", [corpus / "train.de"])
    given = [
        f"model.distillation.teacher_cache={plain}",
        "model.distillation.model_path=null",
        "distillation=word_level",
    ]
    found = problems(check_distillation_job, job(*given, *tokenizers, "model.distillation.across_vocabularies=true"))
    assert any("across_vocabularies=true" in one and "teacher_cache" in one for one in found)


def test_the_refusal_of_other_tokenizers_names_the_key_that_allows_them(job, tokenizers):
    found = problems(check_distillation_job, job(*tokenizers))
    assert found and all("model.distillation.across_vocabularies=true allows" in one for one in found)
    allowed = ["model.distillation.across_vocabularies=true", "distillation=word_level"]
    assert check_distillation_job(job(*tokenizers, *allowed, *TINY)) is not None


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["distillation=word_level_kl"], ["student_train_loss_weight above 0"]),
        (["model.encoder_tokenizer.tokenizer_model=null"], ["model.encoder_tokenizer.tokenizer_model has no value"]),
        (["distillation=triple", "model.encoder.hidden_size=16", "model.decoder.hidden_size=16"], ["reads the teacher's 'decoder_hidden_states'"]),
        (["distillation=word_level", "model.distillation.share_encoder=true"], ["share_encoder=false"]),
        (["distillation=word_level", "model.distillation.distilbert_initialization=true", *TINY], ["initialization.embeddings=false"]),
        (["distillation=word_level", "model.multilingual=true", "model.src_language=[de,nl]"], ["multilingual"]),
    ],
)  # fmt: skip
def test_what_does_not_go_across_vocabularies_is_told(job, tokenizers, overrides, told):
    found = problems(
        check_distillation_job, job(*tokenizers, "model.distillation.across_vocabularies=true", *overrides)
    )
    assert all(any(sentence in one for one in found) for sentence in told), found


def test_pieces_with_spaces_at_the_other_end_are_refused(job, corpus, tmp_path):
    spaced = train_sentencepiece(tmp_path / "spaced", corpus / "both.txt", 40, treat_whitespace_as_suffix=True)
    across = ["model.distillation.across_vocabularies=true", "distillation=word_level", *TINY]
    found = problems(check_distillation_job, job(*with_tokenizers(spaced), *across))
    assert len(found) == 2 and all("treat_whitespace_as_suffix" in one for one in found), found


def test_the_key_is_refused_where_it_has_no_effect(job, tokenizer):
    across = ["model.distillation.across_vocabularies=true", "distillation=word_level"]
    found = problems(check_distillation_job, job(*with_tokenizers(tokenizer), *across))
    assert any("has no effect" in one for one in found)


@pytest.mark.parametrize(("loss", "tensor"), [(SPANS, "spans"), (SORTED, "own_pieces")])
def test_losses_across_vocabularies_are_refused_with_the_same_pieces(job, distill, tokenizer, loss, tensor):
    ((name, node),) = loss.items()
    found = problems(check_distillation_job, job(f"+model.distillation.loss.{name}={{_target_: {node['_target_']}}}"))
    assert any(f"reads the teacher's '{tensor}'" in one for one in found)
    with pytest.raises(ConfigurationError, match=f"'{tensor}'"):
        distill(loss, own=tokenizer, across_vocabularies=False)
