import json
import shutil

import pytest

from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.models.cache_config import PAIR_SELECTION_DEFAULTS
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.teacher_cache.folder import INDEX_FILES, shard_files
from tests.conftest import train_sentencepiece
from tests.examples.bad_files import MODEL, write_nemo
from tests.models.conftest import problems


@pytest.fixture
def cache(corpus, teacher_path, tmp_path):
    """What a check reads of a cache of the training data."""
    settings = {
        "teacher": {"name": "teacher.nemo", "sha256": NemoArchive(teacher_path).sha256()},
        "k": 8,
        "dtype": "float16",
        **(PAIR_SELECTION_DEFAULTS | {"clean": True}),
        "data": [fingerprint(corpus / name) for name in ("train.de", "train.en")],
    }
    folder = tmp_path / "cache"
    folder.mkdir()
    files = {"index": INDEX_FILES, "shards": [path.name for path in shard_files(folder, 1)]}
    listed = {key: [{"name": name, "sha256": "0" * 64} for name in names] for key, names in files.items()}
    counts = {"pairs": 64, "tokens": 640, "bytes_per_token": 20}
    (folder / "manifest.json").write_text(json.dumps({"settings": settings, **counts, **listed}))
    shutil.copy(teacher_path, folder / "teacher.nemo")
    return folder


@pytest.fixture
def job(job, cache):
    """Composes a distillation from a cache as the command line would."""
    from_cache = ["model.distillation.model_path=null", f"model.distillation.teacher_cache={cache}"]
    return lambda *overrides: job(*from_cache, *overrides)


def test_a_training_from_a_cache_needs_no_teacher(job):
    check_distillation_job(job())


def test_without_a_cache_a_teacher_is_asked_for(job):
    (problem,) = problems(check_distillation_job, job("model.distillation.teacher_cache=null"))
    assert problem.startswith("model.distillation.model_path has no value")


def test_the_teacher_that_the_cache_is_of_may_be_named_too(job, teacher_path):
    check_distillation_job(job(f"model.distillation.model_path={teacher_path}"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.distillation.teacher_cache=nowhere"], "'nowhere' holds no finished teacher cache; create it with 'nemo-distill cache'."),
        (["model.distillation.teacher_cache_tail=flat"], "teacher_cache_tail=flat: must be one of renormalize, uniform."),
        (["model.distillation.cosine_loss_weight=1"], "distillation.loss.cosine reads the teacher's 'decoder_hidden_states', but a teacher cache stores only log_probs, nll."),
        (["distillation=reverse_kl"], "is infinite if the teacher gives a word zero probability; with a teacher cache, set model.distillation.teacher_cache_tail=uniform."),
        (["model.distillation.model_path=[a.nemo,b.nemo]"], "names 2 teachers; a teacher cache supports only one."),
        (["model.distillation.distilbert_initialization=true"], "model.distillation.distilbert_initialization=true copies weights"),
        (["model.train_ds.max_seq_length=600"], "model.train_ds.max_seq_length=600, but model.distillation.teacher_cache was made with 512"),
        (["model.encoder_tokenizer.bpe_dropout=0.1", "model.encoder_tokenizer.tokenizer_model={tokenizer}"], "model.encoder_tokenizer.bpe_dropout=0.1: NeMo does this only with youtokentome"),
        (["model.decoder_tokenizer.tokenizer_model={other}"], "model.decoder_tokenizer has 50 pieces, the teacher's"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_sentence(job, corpus, tokenizer, tmp_path, overrides, sentence):
    other = train_sentencepiece(tmp_path / "other", corpus / "both.txt", vocab_size=50)
    overrides = [override.format(corpus=corpus, tokenizer=tokenizer, other=other) for override in overrides]
    found = problems(check_distillation_job, job(*overrides))
    assert len(found) == 1 and sentence in found[0], found


def test_what_no_cache_holds_is_told_before_there_is_one(job):
    """A comparison is checked before it has made its caches."""
    missing = ["model.distillation.teacher_cache=nowhere", "model.distillation.distilbert_initialization=true"]
    found = problems(check_distillation_job, job(*missing))
    assert len(found) == 2 and any("copies weights" in one for one in found), found


def test_dropout_of_the_cached_teachers_tokenizer_is_refused(job, cache, yttm_tokenizer):
    tokenizer = {"library": "yttm", "tokenizer_model": "nemo:tokenizer.model", "bpe_dropout": 0.1}
    config = MODEL | {f"{side}_tokenizer": tokenizer for side in ("encoder", "decoder")}
    write_nemo(cache / "teacher.nemo", config, yttm_tokenizer.read_bytes())
    found = problems(check_distillation_job, job())
    assert sum("has bpe_dropout=0.1, so the ids of a sentence vary" in problem for problem in found) == 2


def test_data_that_the_cache_was_not_made_of_is_named(job, corpus):
    data = (f"model.train_ds.src_file_name={corpus}/val.de", f"model.train_ds.tgt_file_name={corpus}/val.en")
    found = problems(check_distillation_job, job(*data))
    assert len(found) == 2
    for language, problem in zip(("de", "en"), found):
        assert problem.startswith(f"model.train_ds: '{corpus}/val.{language}' is not a file that")


def test_another_teacher_than_the_caches_is_named(job, tmp_path, teacher_path):
    other = tmp_path / "other.nemo"
    other.write_bytes(teacher_path.read_bytes() + b"\0" * 512)
    (problem,) = problems(check_distillation_job, job(f"model.distillation.model_path={other}"))
    assert "other.nemo' with SHA-256" in problem and "was made with 'teacher.nemo'" in problem


def test_all_mistakes_are_told_at_once(job):
    found = problems(
        check_distillation_job,
        job("model.distillation.teacher_cache_tail=flat", "model.distillation.temperature=-1", "+trainer.gpus=1"),
    )
    assert len(found) == 3


def test_reverse_kl_goes_with_a_uniform_tail(job):
    check_distillation_job(job("distillation=reverse_kl", "model.distillation.teacher_cache_tail=uniform"))


def test_of_a_mix_every_corpus_must_be_in_the_cache(job, corpus):
    mix = ["distillation=hybrid", *(f"model.distillation.mix.corpora.pseudo.{side}" for side in ("source", "target"))]
    known, unknown = (
        [mix[0], f"{mix[1]}={corpus}/{name}.de", f"{mix[2]}={corpus}/{name}.en"] for name in ("train", "test")
    )
    check_distillation_job(job(*known))
    found = problems(check_distillation_job, job(*unknown))
    assert len(found) == 2 and all(
        "is not a file that model.distillation.teacher_cache was made from" in p for p in found
    )
