"""Models of Hugging Face as teachers, beside `transformers` itself."""

import math
import shutil
from types import SimpleNamespace

import pytest
import torch
from nemo.collections.common.tokenizers.sentencepiece_tokenizer import SentencePieceTokenizer
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel
from nemo_distill.commands.cache_teacher import check_caching
from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.core.registry import DistillationRegistry, Role
from nemo_distill.evaluation.parameters import archive_parameters
from nemo_distill.models import hugging_face_teacher, scoring
from nemo_distill.models.hugging_face_teacher import HuggingFaceTeacher, MappedProjection
from nemo_distill.models.retokenized_teacher import RetokenizedTeacher, TranslationPieceTeacher, pieces_of
from nemo_distill.models.scoring import PairScorer
from nemo_distill.models.student_config import complete_student
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.tokenizer_files import sentencepiece_proto
from nemo_distill.nemo_files.translation_archive import teacher_archive
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.segmentations import piece_map
from tests.conftest import batch_of_lines, tiny_config, train_sentencepiece
from tests.hugging_face_folders import FAMILIES, write_folder
from tests.models.conftest import distillation_of, losses_and_gradient, problems, registered, with_tokenizers
from tests.models.test_cached_teacher import PREFIX, WORD_LEVEL, caching_config, make_cache

CODES = {"nllb": ("deu_Latn", "eng_Latn"), "m2m_100": ("de", "en"), "mbart": ("de_DE", "en_XX")}
CODES["mbart_50"] = CODES["mbart"]
LINES = 6


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, corpus, tmp_path_factory):
    return write_folder(family, tmp_path_factory.mktemp("folders") / family, corpus)


@pytest.fixture(scope="module")
def teacher(folder, family):
    return HuggingFaceTeacher(folder, FAMILIES[family])


def lines(corpus):
    """Some pairs, one of them with characters that no tokenizer knows."""
    source, target = ((corpus / f"train.{side}").read_text().splitlines()[:LINES] for side in ("de", "en"))
    return [*source, "Hund ☃ rot"], [*target, "dog ☃ red"]


@torch.no_grad()
def expected_log_probs(folder, family, source, target):
    """What `transformers` gives for one pair, encoded by its own tokenizer as for a training (T, V)."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
    from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder, use_fast=False),
        AutoModelForSeq2SeqLM.from_pretrained(folder),
    )
    if family in CODES:
        tokenizer.src_lang, tokenizer.tgt_lang = CODES[family]
    source = f">>fra<< {source}" if "tags" in family else source
    encoded = tokenizer(source, text_target=target, return_tensors="pt")
    if family in ("nllb", "m2m_100"):
        start = shift_tokens_right(encoded["labels"], tokenizer.pad_token_id, model.config.decoder_start_token_id)
    else:
        start = model.prepare_decoder_input_ids_from_labels(encoded["labels"])
    logits = model(encoded["input_ids"], decoder_input_ids=start).logits[0]
    of_text = {"mbart": slice(None, -1), "mbart_50": slice(1, None)}  # without the position that gives a language
    kept = slice(1, None) if family in ("nllb", "m2m_100") else of_text.get(family, slice(None))
    known = tokenizer.target_encoder if "two" in family else tokenizer.get_vocab()
    logits[:, known["<pad>"]] = -torch.inf  # never generated
    return logits.log_softmax(-1)[kept], known


def expected_of_own_pieces(teacher, folder, family, source, target):
    """The same over the pieces of the teacher's own file (T, V), and the ids of those that it knows.

    The others share what is left, but not padding, nor a start that the teacher lacks.
    """
    expected, known = expected_log_probs(folder, family, source, target)
    pieces = teacher.vocabularies()["decoder"].pieces
    ids, columns = zip(*(
        (index, known[piece]) for index, piece in enumerate(pieces) if piece in known and piece != "<pad>"
    ))  # fmt: skip
    own = torch.full((len(expected), len(pieces)), -torch.inf)
    tail = [index for index, piece in enumerate(pieces) if piece not in (*known, "<pad>", "<s>")]
    if not tail:
        own[:, ids] = expected[:, columns].log_softmax(-1)
        return own, list(ids)
    own[:, ids] = expected[:, columns]
    own[:, tail] = (1 - expected[:, columns].exp().sum(-1, keepdim=True)).clamp(min=0).log() - math.log(len(tail))
    return own, list(ids)


def test_log_probs_are_those_of_transformers(teacher, folder, family, corpus):
    *batch, labels = batch_of_lines(teacher, *lines(corpus))
    found = teacher(*batch)
    assert found.shape == (LINES + 1, labels.shape[1], teacher.decoder_tokenizer.vocab_size)
    for row, pair in enumerate(zip(*lines(corpus))):
        expected, known = expected_of_own_pieces(teacher, folder, family, *pair)
        own = found[row, : len(expected)]
        others = sorted(set(range(own.shape[1])) - set(known))
        assert int((labels[row] != teacher.decoder_tokenizer.pad_id).sum()) == len(expected)
        torch.testing.assert_close(own[:, known], expected[:, known], rtol=0, atol=2e-5)
        torch.testing.assert_close(own[:, others].exp(), expected[:, others].exp())
        assert own[:, teacher.decoder_tokenizer.pad_id].exp().max() < 1e-9


def test_words_that_the_teacher_lacks_share_what_is_left_in_equal_parts():
    torch.manual_seed(0)
    states, weight = torch.randn(2, 3, 4), torch.randn(6, 4)
    places = {"words": [1, 3, 0, 0, 0], "tail": [2, 4], "none": [3], "others": [2, 4, 5]}  # word 0 is forbidden
    projection = MappedProjection(states, weight, **{name: torch.tensor(ids) for name, ids in places.items()})
    known = torch.softmax((states @ weight.T)[..., [1, 3, 2, 4, 5]], dim=-1)
    part = known[..., 2:].sum(dim=-1) / 2
    expected = torch.stack([known[..., 0], known[..., 1], part, torch.zeros_like(part), part], dim=-1)
    torch.testing.assert_close(projection.tempered_log_probs().exp(), expected)


def test_words_that_the_teacher_never_writes_are_none_of_those_whose_probability_the_tail_gets(nllb):
    teacher = HuggingFaceTeacher(nllb, FAMILIES["nllb"])
    forbidden, *others = teacher.others.tolist()
    teacher.model.generation_config.bad_words_ids = [[forbidden]]
    teacher.set_student(teacher.encoder_tokenizer, teacher.decoder_tokenizer)
    assert teacher.others.tolist() == others


def test_no_word_of_the_teacher_stands_for_two_of_the_students(monkeypatch):
    pieces = ("<unk>", "end", "a", "padding", "</s>", "b")
    monkeypatch.setattr(hugging_face_teacher, "loaded_vocabulary", lambda tokenizer: SimpleNamespace(pieces=pieces))
    own = SimpleNamespace(unk_id=0, eos_id=1, pad_id=3)
    tokenizer = SimpleNamespace(unk_token="<unk>", eos_token="</s>", pad_token="<pad>")
    known = {"<pad>": 1, "</s>": 2, "a": 5, "<unk>": 7}
    assert hugging_face_teacher._teacher_ids(own, known, tokenizer) == [7, 2, 5, 1, None, None]


def test_a_student_of_the_same_pieces_loses_nothing_across_vocabularies(teacher, corpus):
    batch = batch_of_lines(teacher, *lines(corpus))
    own = teacher.encoder_tokenizer, teacher.decoder_tokenizer
    registry = registered(RetokenizedTeacher(TranslationPieceTeacher(teacher), *own), batch, "log_probs")
    real = batch[-1] != teacher.decoder_tokenizer.pad_id
    assert torch.equal(registry.pairs & real, real)
    found, expected = registry.get(Role.TEACHER, "log_probs")[real].exp(), teacher(*batch[:-1])[real].exp()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_other_pieces_get_the_probability_that_transformers_gives_their_text(teacher, folder, family, small, corpus):
    own = SentencePieceTokenizer(str(small))
    batch = batch_of_lines(SimpleNamespace(encoder_tokenizer=own, decoder_tokenizer=own), *lines(corpus))
    registry = registered(RetokenizedTeacher(TranslationPieceTeacher(teacher), own, own), batch, "log_probs", "spans")
    log_probs, (spans, _) = (registry.get(Role.TEACHER, name) for name in ("log_probs", "spans"))
    pieces, theirs = pieces_of(own), pieces_of(teacher.decoder_tokenizer)
    first, compared = torch.from_numpy(piece_map(theirs, pieces)), 0
    for row, pair in enumerate(zip(*lines(corpus))):
        expected, known = expected_of_own_pieces(teacher, folder, family, *pair)
        ids = [*theirs.encode(pair[1]), theirs.special_ids["eos"]]
        if set(ids) <= set(known):
            whole = expected[range(len(ids)), ids].sum()
            torch.testing.assert_close(spans[row].sum(), whole, rtol=1e-4, atol=1e-4)
            compared += 1
        if registry.pairs[row, 0]:
            begun = torch.zeros(len(pieces.surfaces) + 1).index_add_(0, first, expected[0].exp())[:-1]
            ratio = (log_probs[row, 0].exp() / begun)[begun > 1e-6]
            assert ratio.max() - ratio.min() < 1e-3
    assert registry.pairs[:, 0].any() and not registry.pairs[batch[-1] != own.pad_id].all()
    assert compared


@pytest.fixture(scope="module")
def small(tokenizer, corpus, tmp_path_factory):
    """A tokenizer whose pieces are shorter than a teacher's."""
    return train_sentencepiece(tmp_path_factory.mktemp("small") / "small", corpus / "both.txt", 40)


@pytest.fixture(scope="module")
def marian(corpus, tmp_path_factory):
    return write_folder("marian", tmp_path_factory.mktemp("folders") / "marian", corpus)


@pytest.fixture(scope="module")
def nllb(corpus, tmp_path_factory):
    return write_folder("nllb", tmp_path_factory.mktemp("folders") / "nllb", corpus)


@pytest.fixture
def distill(distillation_config, tmp_path):
    """Builds a distillation from folders or other teachers, or from a cache. The student takes their tokenizers, or has
    its own."""

    def build(teachers, losses=WORD_LEVEL, own=None, **distillation):
        config = OmegaConf.merge(distillation_config)
        config.shared_embeddings = False
        for side in ("encoder", "decoder"):
            config[f"{side}_tokenizer"].tokenizer_model = own and str(own)
        config.distillation.update({"model_path": teachers, "distill_encoder": False, **distillation})
        config.distillation.loss = losses
        complete_student(config, tmp_path)
        return distillation_of(config, tmp_path)

    return build


@pytest.mark.parametrize(
    ("family", "temperature", "across"),
    [("marian", 2.0, False), ("nllb", 1.0, False), ("marian", 1.0, True), ("nllb", 2.0, True)],
)
def test_plain_and_fused_losses_and_those_from_a_cache_are_the_same(
    family, temperature, across, marian, nllb, small, distill, corpus, tmp_path
):
    folder = {"marian": marian, "nllb": nllb}[family]
    languages = dict(zip(("source_language", "target_language"), FAMILIES[family]))
    settings = {"temperature": temperature, "student_train_loss_weight": 0.5, "across_vocabularies": across}
    settings |= {"own": small} if across else {}
    given = [f"model.distillation.{key}={value}" for key, value in languages.items() if value]
    if across:
        given += [
            *with_tokenizers(small),
            "model.distillation.across_vocabularies=true",
            "model.distillation.student_train_loss_weight=0.5",
        ]
    whole = ("cache.k=null", "cache.dtype=float32", *given)
    cache = make_cache(folder, tmp_path / "cache", [corpus / "train.de"], *whole)
    plain = distill(str(folder), fused=False, **settings, **languages)
    others = [
        distill(str(folder), **settings, **languages),
        distill(None, teacher_cache=str(cache), teacher_cache_tail="uniform", **settings),
    ]
    for batch in plain.train_dataloader():
        expected, gradient = losses_and_gradient(plain.eval(), batch)
        assert set(expected) == {*WORD_LEVEL, "student"} and all(map(torch.isfinite, expected.values()))
        for other in others:
            other.student.load_state_dict(plain.student.state_dict())
            found, other_gradient = losses_and_gradient(other.eval(), batch)
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 if across else 1e-6)
            assert (gradient - other_gradient).norm() < 1e-4 * gradient.norm()


def teachers_log_probs(teachers, batch):
    registry = DistillationRegistry([(Role.TEACHER, "log_probs")])
    teachers.register(batch, registry)
    return registry.get(Role.TEACHER, "log_probs")


def test_it_is_averaged_with_a_nemo_teacher_of_the_same_pieces(distill, marian, tmp_path):
    alone = distill(str(marian))
    config = tiny_config(alone.student.cfg.encoder_tokenizer.tokenizer_model)
    config.decoder_tokenizer.tokenizer_model = alone.student.cfg.decoder_tokenizer.tokenizer_model
    config.shared_embeddings = False
    DistillableMTEncDecModel(config).save_to(str(tmp_path / "nemo.nemo"))
    nemo = str(tmp_path / "nemo.nemo")
    for both in ([nemo, str(marian)], [str(marian), nemo]):
        together = distill(both, teacher_weights=[1, 3])
        (batch, *_) = together.train_dataloader()
        parts = [teachers_log_probs(distill(path).teachers, batch).exp() for path in both]
        found = teachers_log_probs(together.teachers, batch).exp()
        torch.testing.assert_close(found, parts[0] / 4 + parts[1] * 3 / 4)


@pytest.mark.parametrize("across", [False, True], ids=["its_pieces", "other_pieces"])
def test_a_training_records_its_teacher(across, distill, marian, small, tmp_path):
    losses = {"kl": WORD_LEVEL["kl"]}
    settings = {"teacher_precision": "bfloat16"}
    if across:
        losses |= {"spans": {"_target_": f"{PREFIX}SpanLikelihoodLoss"}}
        settings |= {"own": small, "across_vocabularies": True, "student_train_loss_weight": 0.5}
    model = distill(str(marian), losses, **settings)
    model.trainer.fit(model)
    assert all(torch.isfinite(loss) for loss in model.step_losses.values())
    model.save_to(str(tmp_path / "student.nemo"))
    config = NemoArchive(tmp_path / "student.nemo").config
    assert config.distilled_with.teachers == [fingerprint(marian)]
    assert (config.src_language, config.tgt_language) == ("ignore", "ignore")
    student = DistillableMTEncDecModel.restore_from(str(tmp_path / "student.nemo"), map_location="cpu")
    assert across or student.decoder_tokenizer.pad_id == student.decoder_tokenizer.vocab_size - 1
    assert len(student.translate(["der Hund sieht rot"])) == 1


def with_pad_first(path, folder):
    """The same pieces, with other ids."""
    proto = sentencepiece_proto(path)
    kept = list(proto.pieces)
    del proto.pieces[:]
    proto.pieces.add(piece="<pad>", score=0.0).type = 3
    proto.pieces.extend(kept)
    file = folder / f"pad_first_{path.name}"
    file.write_bytes(proto.SerializeToString())
    return file


@pytest.mark.parametrize("kind", ["other ids", "sentencepiece_legacy"])
def test_a_student_with_its_own_file_of_the_same_pieces_learns_the_same(
    kind, distill, distillation_config, marian, tmp_path
):
    same = distill(str(marian), {"kl": WORD_LEVEL["kl"]})
    for side, name in (("encoder", "source.spm"), ("decoder", "target.spm")):
        path = with_pad_first(marian / name, tmp_path) if kind == "other ids" else marian / name
        tokenizer = distillation_config[f"{side}_tokenizer"]
        tokenizer.update({"tokenizer_model": str(path), "sentencepiece_legacy": kind != "other ids"})
    distillation_config.shared_embeddings = False
    distillation_config.distillation.update({"model_path": str(marian), "distill_encoder": False})
    distillation_config.distillation.loss = {"kl": WORD_LEVEL["kl"]}
    own = distillation_of(distillation_config, tmp_path)
    pieces = same.student.vocabularies()["decoder"].pieces
    places = {piece: index for index, piece in enumerate(own.student.vocabularies()["decoder"].pieces)}
    columns = [places[piece] for piece in pieces]
    found, expected = {}, {}
    for model, log_probs in ((same, expected), (own, found)):
        for batch in model.train_dataloader():
            tokenizer, labels = model.student.decoder_tokenizer, batch[-1][0]
            for row, ids in zip(teachers_log_probs(model.teachers, batch), labels):
                real = ids != tokenizer.pad_id
                log_probs[tokenizer.ids_to_text(ids[real].tolist())] = row[real]
    assert set(found) == set(expected)
    for text, row in found.items():
        torch.testing.assert_close(row[:, columns], expected[text])


def test_it_finds_swapped_sides_by_its_own_scores(marian, corpus, monkeypatch, tmp_path):
    teacher, pairs = HuggingFaceTeacher(marian), lines(corpus)
    expected = PairScorer(teacher).score(*pairs)
    teacher.set_student(
        *(
            SentencePieceTokenizer(str(with_pad_first(marian / name, tmp_path)))
            for name in ("source.spm", "target.spm")
        )
    )
    assert PairScorer(teacher).score(*pairs) == pytest.approx(expected, rel=1e-5)
    looked_at = []
    monkeypatch.setattr(scoring, "warn_of_reversed_section", lambda where, *_: looked_at.append(where))
    model = SimpleNamespace(teacher=teacher, student=SimpleNamespace(cfg=OmegaConf.create()))
    scoring.warn_of_reversed_pairs(model, SimpleNamespace(is_global_zero=True))
    assert looked_at == ["model.train_ds", "model.validation_ds", "model.test_ds"]


@pytest.fixture
def folder_job(job, marian):
    def compose_job(*overrides):
        return job("model.shared_embeddings=false", f"model.distillation.model_path={marian}", *overrides)

    return compose_job


def test_the_configuration_is_checked_before_anything_is_loaded(folder_job, nllb, marian, tokenizer):
    check_distillation_job(folder_job())
    languages = ("model.distillation.source_language=deu", "model.distillation.target_language=en")
    check_distillation_job(folder_job(f"model.distillation.model_path={nllb}", *languages))
    cases = {
        ("distillation=triple",): "decoder_hidden_states",
        ("model.distillation.share_encoder=true",): "share_encoder=true",
        ("model.distillation.same_size_as_teacher=true",): "same_size_as_teacher=true",
        ("model.distillation.distilbert_initialization=true",): "distilbert_initialization=true",
        ("model.distillation.source_language=de",): "model.distillation.source_language=de",
        ("model.multilingual=true", "model.tgt_language=[en,fr]"): "model.multilingual=true",
        (f"model.distillation.model_path={nllb}",): "model.distillation.target_language has no value",
        (f"model.distillation.model_path={nllb}", languages[0], "model.distillation.target_language=qq"): "=qq",
    }
    for overrides, said in cases.items():
        assert any(said in problem for problem in problems(check_distillation_job, folder_job(*overrides))), said


def test_other_pieces_are_counted_and_named(folder_job, tokenizer):
    (found,) = problems(check_distillation_job, folder_job(f"model.decoder_tokenizer.tokenizer_model={tokenizer}"))
    own = sentencepiece_proto(tokenizer)
    named = [piece.piece for piece in own.pieces if f"'{piece.piece}'" in found]
    assert "model.decoder_tokenizer" in found and len(named) >= 3 and "across_vocabularies=true" in found


def test_a_student_of_other_pieces_is_accepted_if_asked_for(folder_job, small):
    across = "model.distillation.across_vocabularies=true"
    check_distillation_job(folder_job(*with_tokenizers(small), across, "distillation=word_level"))
    found = problems(check_distillation_job, folder_job(across, "distillation=word_level"))
    assert any("model.encoder_tokenizer.tokenizer_model has no value" in one for one in found)


def test_languages_of_a_nemo_teacher_are_those_of_the_model(job):
    (found,) = problems(check_distillation_job, job("model.distillation.target_language=en"))
    assert "model.distillation.target_language=en" in found


@pytest.mark.parametrize("missing", ["config.json", "target.spm", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused(missing, folder_job, corpus, tmp_path):
    folder = write_folder("marian", tmp_path / "folder", corpus)
    (folder / missing).unlink()
    (found,) = problems(check_distillation_job, folder_job(f"model.distillation.model_path={folder}"))
    assert "model.distillation.model_path" in found and missing.removeprefix("model") in found


def test_a_folder_whose_tokenizer_cannot_be_opened_is_refused_by_key(folder_job, nllb, tmp_path):
    shutil.copytree(nllb, tmp_path / "folder")
    (tmp_path / "folder" / "tokenizer_config.json").unlink()
    (found,) = problems(check_distillation_job, folder_job(f"model.distillation.model_path={tmp_path}/folder"))
    assert found.startswith("model.distillation.model_path: ") and "tokenizer_config.json" in found


def test_another_kind_of_model_is_refused_and_its_translations_offered(folder_job, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    (found,) = problems(check_distillation_job, folder_job(f"model.distillation.model_path={tmp_path}"))
    assert "'t5'" in found and "engine=hugging_face" in found


def test_a_cache_is_of_one_direction(folder_job, nllb, corpus, tmp_path):
    one = ("model.distillation.source_language=de", "model.distillation.target_language=en")
    cache = make_cache(nllb, tmp_path / "cache", [corpus / "train.de"], *one)
    with pytest.raises(ConfigurationError, match="languages was"):
        other = (one[0], "model.distillation.target_language=fr")
        check_caching(caching_config(nllb, cache, [corpus / "train.de"], *other))
    reads = (f"model.distillation.model_path={nllb}", f"model.distillation.teacher_cache={cache}")
    check_distillation_job(folder_job(*reads, *one))
    (found,) = problems(check_distillation_job, folder_job(*reads, *other))
    assert "model.distillation.target_language=fr" in found and "made with en" in found


def test_a_cache_without_languages_names_them(nllb, corpus, tmp_path):
    with pytest.raises(ConfigurationError, match="model.distillation.source_language has no value"):
        check_caching(caching_config(nllb, tmp_path / "cache", [corpus / "train.de"]))


def test_pairs_longer_than_its_positions_are_refused(distill, marian, distillation_config, tmp_path):
    for side, word in (("src", "Hund"), ("tgt", "dog")):
        (tmp_path / side).write_text(f"{word}\n{' '.join([word] * 40)}\n")
        distillation_config.train_ds[f"{side}_file_name"] = str(tmp_path / side)
    with pytest.raises(ConfigurationError, match="of the teacher's encoder"):
        distill(str(marian))


def test_its_parameters_are_counted_without_loading_it(folder, teacher):
    count = archive_parameters(teacher_archive(folder))
    assert count.total == sum(parameter.numel() for parameter in teacher.model.parameters())
