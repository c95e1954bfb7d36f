"""A student's config, and what it leaves to its teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.core.distillation_section import DistillationSection
from nemo_distill.models.distillation_section import read_distillation
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.tokenizer_files import tokenizer_library
from nemo_distill.nemo_files.translation_archive import SIDES
from nemo_distill.teacher_cache.cache import cached_teacher_path


def complete_student(model: DictConfig, folder: str | Path) -> None:
    """Fills in what a student's config leaves to its teacher.

    These are its tokenizers, as copies of the teacher's files in `folder`, languages that are null, and with
    `same_size_as_teacher` its sizes.
    """
    section, problems = read_distillation(OmegaConf.to_container(model, resolve=True), "model.distillation")
    if section is None:
        raise ConfigurationError(problems)
    archive = NemoArchive(teacher_archives(section)[0])
    with open_dict(model):
        model.update(languages_left_to(archive.path, model))
    if section.same_size_as_teacher:
        with open_dict(model):
            model.update(sizes_of(archive))
    for side in SIDES:
        tokenizer = model[f"{side}_tokenizer"]
        if tokenizer.get("tokenizer_model"):
            continue
        taken = OmegaConf.to_container(archive.config[f"{side}_tokenizer"])
        if taken.get("tokenizer_model"):
            path = archive.extract_artifact(taken["tokenizer_model"], folder)
            taken |= {"tokenizer_model": str(path), "library": tokenizer_library(path)}
        with open_dict(model):
            model[f"{side}_tokenizer"] = taken


def languages_left_to(teacher: str | Path, model: Mapping[str, Any]) -> dict[str, Any]:
    """The teacher's languages where the student's are null; how text is treated before and after depends on them."""
    config = NemoArchive(teacher).config
    return {key: config[key] for key in ("src_language", "tgt_language") if not model.get(key) and config.get(key)}


def sizes_of(archive: NemoArchive) -> dict[str, Any]:
    """The sections of a teacher's config that say how large it is."""
    config = OmegaConf.to_container(archive.config)
    sizes = {key: config[key] for key in ("encoder", "decoder", "head") if key in config}
    return sizes | {"shared_embeddings": bool(config.get("shared_embeddings"))}


def teacher_archives(distillation: DistillationSection) -> list[str | Path]:
    """The files that tell of the teachers: each one's `.nemo`, or what a teacher cache keeps of it."""
    if distillation.teacher_cache:
        return [cached_teacher_path(distillation.teacher_cache)]
    return list(distillation.teachers)
