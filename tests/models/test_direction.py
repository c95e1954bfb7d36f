"""Source and target that were swapped are told by what the teacher makes of them."""

import re
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from nemo_distill.commands.cache_teacher import cache_teacher, caching_job
from nemo_distill.commands.generate_pseudo_labels import labelling_job, translate
from nemo_distill.models.mt_enc_dec_model import DistillableMTEncDecModel
from nemo_distill.models.scoring import sampled_pairs, warn_of_reversed_pairs, warn_of_reversed_section
from nemo_distill.nemo_files.restore import restore_for_inference
from tests.conftest import composed, reversing_sentences


@pytest.fixture
def section(tmp_path):
    """A data section of text that the trained teacher translates well."""
    for name, lines in zip(("src", "tgt"), reversing_sentences(200, seed=5)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return {"src_file_name": str(tmp_path / "src"), "tgt_file_name": [str(tmp_path / "tgt")]}


def swapped(section):
    return {"src_file_name": section["tgt_file_name"], "tgt_file_name": section["src_file_name"]}


def test_of_each_section_one_process_warns_of_swapped_sides_with_both_numbers(section, trained_path, warnings):
    teacher = restore_for_inference(DistillableMTEncDecModel, trained_path)
    config = OmegaConf.create({"train_ds": section, "validation_ds": swapped(section)})
    model = SimpleNamespace(teacher=teacher, student=SimpleNamespace(cfg=config))
    for rank_zero in (False, True):
        warn_of_reversed_pairs(model, SimpleNamespace(is_global_zero=rank_zero))
    (warning,) = warnings
    assert warning.startswith("Warning: model.validation_ds seems to have source and target swapped: on 32 pairs")
    forward, backward = map(float, re.findall(r"\d+\.\d\d", warning))
    assert forward > 2 > 0.5 > backward


@pytest.mark.parametrize("is_swapped", [False, True])
def test_a_section_whose_sides_are_swapped_on_purpose_is_judged_by_what_is_read(
    is_swapped, section, trained_path, warnings
):
    teacher = restore_for_inference(DistillableMTEncDecModel, trained_path)
    files = swapped(section) if is_swapped else section
    warn_of_reversed_section("model.train_ds", teacher, files | {"reverse_lang_direction": True})
    assert len(warnings) == (not is_swapped)


def test_a_teacher_that_knows_neither_direction_says_nothing(section, teacher_path, warnings):
    teacher = restore_for_inference(DistillableMTEncDecModel, teacher_path)
    warn_of_reversed_section("model.train_ds", teacher, swapped(section))
    assert warnings == []


def test_of_tarred_data_nothing_is_sampled_and_of_text_no_empty_line(tmp_path):
    (tmp_path / "src").write_text("a\n\nb\n" * 20)
    (tmp_path / "tgt").write_text("A\nx\n\n" * 20)
    section = {"src_file_name": str(tmp_path / "src"), "tgt_file_name": str(tmp_path / "tgt")}
    assert sampled_pairs(section) == [("a", "A")] * 20
    assert sampled_pairs(section | {"use_tarred_dataset": True}) == sampled_pairs({}) == []


def test_with_a_multilingual_teacher_nothing_is_told(section, warnings):
    warn_of_reversed_section("here", SimpleNamespace(multilingual=True), swapped(section))
    assert warnings == []


def caching_of(section, teacher, folder):
    data = [f"model.train_ds.{key}={value}" for key, value in section.items()]
    places = [f"model.distillation.model_path={teacher}", f"model.distillation.teacher_cache={folder}"]
    small = ["cache.k=2", "cache.shard_pairs=100", "cache.tokens_in_batch=500"]
    return caching_job(composed("cache_teacher", *data, *places, *small))


def test_a_teacher_cache_of_swapped_text_is_warned_of_by_its_first_process(section, trained_path, tmp_path, warnings):
    for number, (files, rank, expected) in enumerate(
        [(section, 0, 0), (swapped(section), 1, 0), (swapped(section), 0, 1)]
    ):
        cache_teacher(caching_of(files, trained_path, tmp_path / str(number)), rank, 2, "cpu")
        assert sum("seems to have source and target swapped: on 32 pairs" in one for one in warnings) == expected


@pytest.mark.parametrize(("reference", "expected"), [("src", 1), ("null", 0)])
def test_labelling_of_a_swapped_source_with_a_reference_is_warned_of(
    section, trained_path, tmp_path, warnings, reference, expected
):
    files = [f"source={tmp_path}/tgt", f"reference={tmp_path}/src" if reference == "src" else "reference=null"]
    rest = [f"model={trained_path}", f"output_dir={tmp_path}/labels", "search.beam_size=1", "search.max_delta=2"]
    job = labelling_job(composed("generate_pseudo_labels", *files, *rest))
    translate(job, 0, 1, "cpu")
    assert sum("seems to have source and target swapped: on 32 pairs" in one for one in warnings) == expected
