"""What a student's config leaves open it has from its teacher."""

from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.models.student_config import complete_student
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary


def test_the_teachers_tokenizers_are_the_default(job, tokenizer, tmp_path):
    model = job().model
    complete_student(model, tmp_path)
    for side in ("encoder", "decoder"):
        taken = model[f"{side}_tokenizer"]
        assert taken.library == "sentencepiece"
        assert read_vocabulary(taken.tokenizer_model) == read_vocabulary(tokenizer)


def test_the_teachers_languages_are_the_default(job, teacher_path, tmp_path):
    archived = NemoArchive(teacher_path).config
    model, other = job().model, job("model.tgt_language=fr").model
    for student in (model, other):
        complete_student(student, tmp_path)
    assert (model.src_language, model.tgt_language) == (archived.src_language, archived.tgt_language) != (None, None)
    assert (other.src_language, other.tgt_language) == (archived.src_language, "fr")


def test_a_student_of_its_teachers_size_takes_it_from_the_teacher(job, tmp_path):
    cfg = job("student=self", "distillation=distilbert")
    check_distillation_job(cfg)
    complete_student(cfg.model, tmp_path)
    assert cfg.model.encoder.hidden_size == 16 and cfg.model.decoder.num_layers == 1
