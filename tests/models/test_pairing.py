"""A student that its teacher cannot teach is refused with the reason."""

import pytest

from nemo_distill.commands.cache_teacher import check_caching
from nemo_distill.commands.training_check import check_distillation_job, check_training
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.models.pairing import reading_order_problems, shared_embedding_problems
from tests.conftest import train_sentencepiece
from tests.models.conftest import problems


def test_another_tokenizer_than_the_teachers_is_told(job, corpus, tmp_path):
    other = train_sentencepiece(tmp_path / "other", corpus / "both.txt", vocab_size=50)
    found = problems(check_distillation_job, job(f"model.encoder_tokenizer.tokenizer_model={other}"))
    assert len(found) == 1 and "model.encoder_tokenizer has" in found[0] and "the teacher's" in found[0]


def test_other_special_ids_than_the_teachers_are_told(job, corpus, tmp_path):
    import sentencepiece

    prefix = tmp_path / "moved"
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus / "both.txt"), model_prefix=str(prefix), vocab_size=60, model_type="bpe",
        pad_id=0, unk_id=3, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    found = problems(check_distillation_job, job(f"model.decoder_tokenizer.tokenizer_model={prefix}.model"))
    assert any("has special ids" in problem for problem in found)


@pytest.mark.parametrize(
    ("own", "theirs", "told"),
    [({"tokenizer_model": "a", "r2l": True}, False, True), ({"r2l": True}, False, False), ({"tokenizer_model": "a"}, True, True)],
)  # fmt: skip
def test_a_student_that_reads_in_another_direction_than_its_teacher_is_told(own, theirs, told):
    """Without a tokenizer of its own, a student takes the teacher's with its direction."""
    teacher = {"decoder_tokenizer": {"r2l": theirs}}
    found = reading_order_problems({"decoder_tokenizer": own}, teacher)
    assert [("model.decoder_tokenizer has r2l=" in problem) for problem in found] == [True] * told


def test_one_matrix_of_embeddings_for_two_vocabularies_is_told(tokenizer, corpus, tmp_path):
    other = train_sentencepiece(tmp_path / "other", corpus / "train.en", vocab_size=45)
    files = {"encoder_tokenizer": {"tokenizer_model": str(tokenizer)}, "decoder_tokenizer": {"tokenizer_model": str(other)}}  # fmt: skip
    (problem,) = shared_embedding_problems(files | {"shared_embeddings": True})
    assert "model.shared_embeddings=true" in problem and "set model.shared_embeddings=false" in problem
    assert shared_embedding_problems(files | {"shared_embeddings": False}) == []
    same = {key: files["encoder_tokenizer"] for key in files}
    assert shared_embedding_problems(same | {"shared_embeddings": True}) == []


@pytest.mark.parametrize(
    ("check", "name"),
    [(check_training, "aayn_base"), (check_distillation_job, "aayn_base_distill"), (check_caching, "cache_teacher")],
)
def test_data_whose_sides_nemo_swaps_after_it_has_read_them_needs_one_tokenizer(
    check, name, job, corpus, tokenizer, teacher_path, tmp_path
):
    other = train_sentencepiece(tmp_path / "other", corpus / "train.en", vocab_size=45)
    overrides = ["model.train_ds.reverse_lang_direction=true"]
    if name != "aayn_base":
        overrides += ["model.distillation.across_vocabularies=true", f"model.distillation.model_path={teacher_path}"]
    if name == "aayn_base_distill":
        overrides.append("model.distillation.student_train_loss_weight=1")
    if name == "cache_teacher":
        overrides.append(f"model.distillation.teacher_cache={tmp_path}/cache")

    def told(encoder, decoder):
        files = {"encoder": encoder, "decoder": decoder}.items()
        try:
            check(
                job(*overrides, *(f"model.{side}_tokenizer.tokenizer_model={path}" for side, path in files), name=name)
            )
        except ConfigurationError as error:
            return [one for one in error.problems if one.startswith("model.train_ds.reverse_lang_direction=true")]
        return []

    assert len(told(other, tokenizer)) == 1
    assert told(other, other) == []


def test_a_distilbert_student_of_another_width_is_refused_with_the_reason(job):
    found = problems(check_distillation_job, job("distillation=distilbert", "student=slim_1x1"))
    assert (
        "model.distillation.initialization copies from the teacher's encoder, which has hidden_size=16; the student has 256."
        in found
    )
