"""Pairs longer than a model has positions are refused where positions are learned, and told of otherwise."""

import pytest
import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.commands.cache_teacher import cache_teacher, caching_job
from nemo_distill.config.errors import DataError
from nemo_distill.models.translation_teacher import TranslationTeacher
from tests.conftest import tiny_config
from tests.models.conftest import distill
from tests.models.test_cached_teacher import caching_config

LONG = 20  # words; at least as many tokens


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory):
    """Two pairs with a long source and three with a long target, among others."""
    folder = tmp_path_factory.mktemp("long")
    pairs = [("Hund", "dog")] * 10 + [("rot " * LONG, "red")] * 2 + [("rot", "red " * LONG)] * 3
    for name in ("train", "val"):
        for end, side in (("de", 0), ("en", 1)):
            (folder / f"{name}.{end}").write_text("".join(f"{pair[side].strip()}\n" for pair in pairs))
    return folder


def config(tokenizer, folder, learned, positions=12, **sections):
    size = {"learn_positional_encodings": learned, "max_sequence_length": positions}
    return OmegaConf.merge(tiny_config(tokenizer, folder, size), sections)


def test_learned_positions_refuse_longer_pairs_with_their_numbers(tokenizer, long_corpus):
    with pytest.raises(ConfigurationError) as error:
        DistillableMTEncDecModel(config(tokenizer, long_corpus, learned=True))
    source, target = error.value.problems
    assert "model.train_ds has 2 pairs whose source is longer than the 12 positions" in source
    assert "model.train_ds has 3 pairs whose target is longer than the 12 positions" in target
    assert "model.train_ds.clean=true" in source
    kept = {section: {"clean": True, "max_seq_length": 12} for section in ("train_ds", "validation_ds")}
    model = DistillableMTEncDecModel(config(tokenizer, long_corpus, learned=True, **kept))
    assert sum(len(batch["src"]) for batch in model._train_ds.batches.values()) == 10


def test_fixed_positions_read_longer_pairs_and_say_so(tokenizer, long_corpus, warnings):
    model = DistillableMTEncDecModel(config(tokenizer, long_corpus, learned=False))
    assert sum(len(batch["src"]) for batch in model._train_ds.batches.values()) == 15
    assert len(warnings) == 4 and all("max_sequence_length" in warning for warning in warnings)
    assert {warning.split()[1] for warning in warnings} == {"model.train_ds", "model.validation_ds"}


def position_tables(model):
    return [side.embedding.position_embedding.pos_enc for side in (model.encoder, model.decoder)]


@pytest.mark.parametrize(
    ("precision", "teachers"), [("32-true", "bfloat16"), ("bf16-mixed", "bfloat16"), ("bf16-true", None)]
)
def test_half_precision_reads_longer_pairs_and_keeps_its_positions(
    precision, teachers, tokenizer, long_corpus, distillation_config, tmp_path
):
    """The teacher has as many positions as the student."""
    short = {"encoder": {"max_sequence_length": 12}, "decoder": {"max_sequence_length": 12}}
    teacher = tmp_path / "teacher.nemo"
    DistillableMTEncDecModel(config(tokenizer, None, learned=False)).save_to(str(teacher))
    own = {"model_path": str(teacher), "teacher_precision": teachers}
    sections = {name: config(tokenizer, long_corpus, learned=False)[name] for name in ("train_ds", "validation_ds")}
    cfg = OmegaConf.merge(distillation_config, short, sections, {"distillation": own})
    model, _ = distill(cfg, tmp_path, precision=precision, max_epochs=1, max_steps=-1)
    exact = position_tables(DistillableMTEncDecModel(config(tokenizer, None, learned=False)))
    for tables in (position_tables(model.student), position_tables(model.teacher)):
        assert all(torch.equal(table, known.to(table.dtype)) for table, known in zip(tables, exact))
    assert position_tables(model.teacher)[0].dtype == torch.bfloat16
    model.save_to(str(tmp_path / "student.nemo"))
    restored = MTEncDecModel.restore_from(str(tmp_path / "student.nemo"), map_location="cpu")
    for table, known in zip(position_tables(restored), exact):
        assert torch.equal(table, known.to(position_tables(model.student)[0].dtype).float())


def test_enough_positions_say_nothing(tokenizer, corpus, warnings):
    DistillableMTEncDecModel(config(tokenizer, corpus, learned=True, positions=64))
    assert not warnings


def test_a_batch_of_data_that_is_read_later_is_refused_by_its_length(tokenizer):
    model = DistillableMTEncDecModel(config(tokenizer, None, learned=True)).eval()
    ids = torch.ones((1, 13), dtype=torch.long)
    for src, tgt, side in ((ids, ids[:, :3], "encoder"), (ids[:, :3], ids, "decoder")):
        with pytest.raises(DataError, match=f"13 tokens.*{side}.*12 positions"):
            model(src, torch.ones_like(src), tgt, torch.ones_like(tgt))


def test_a_cache_of_such_data_is_refused_too(short_teacher, corpus, tokenizer):
    data = tiny_config(tokenizer, corpus).train_ds
    data.update({"clean": True, "max_seq_length": 10})
    teacher = TranslationTeacher(short_teacher, data, "cpu", "float32", {})
    ids = torch.ones((1, 13), dtype=torch.long)
    with pytest.raises(DataError, match="13 tokens.*encoder.*12 positions"):
        teacher.log_probs([ids, torch.ones_like(ids), ids[:, :3], torch.ones_like(ids[:, :3]), ids[:, :3]])


@pytest.fixture(scope="module")
def short_teacher(tokenizer, tmp_path_factory):
    """The path of a teacher with few learned positions."""
    path = tmp_path_factory.mktemp("short") / "teacher.nemo"
    DistillableMTEncDecModel(config(tokenizer, None, learned=True)).save_to(str(path))
    return path


def test_a_teacher_with_fewer_positions_than_its_student_is_told_of_before_training(
    distillation_config, long_corpus, short_teacher
):
    for name in ("train", "val"):
        section = distillation_config["train_ds" if name == "train" else "validation_ds"]
        section.src_file_name, section.tgt_file_name = (str(long_corpus / f"{name}.{end}") for end in ("de", "en"))
    distillation_config.distillation.model_path = str(short_teacher)
    with pytest.raises(ConfigurationError, match="model.train_ds has 2 pairs whose source.*the teacher's encoder"):
        DistillationModelPT(distillation_config, None, model_class=DistillableMTEncDecModel)


def test_a_cache_of_pairs_longer_than_the_teachers_positions_is_refused(long_corpus, short_teacher, tmp_path):
    cfg = caching_config(short_teacher, tmp_path / "cache", [long_corpus / "train.de"])
    with pytest.raises(ConfigurationError, match="model.train_ds has 2 pairs whose source.*the teacher's encoder"):
        cache_teacher(caching_job(cfg), 0, 1, "cpu")
