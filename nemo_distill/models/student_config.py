"""Completes a student's config from its teacher."""

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
    """Fills in the parts of a student's config that come from its teacher.

    These are the tokenizers (copied to `folder`), languages that are null, and the sizes with `same_size_as_teacher`.
    """
    section, problems = read_distillation(OmegaConf.to_container(model, resolve=True), "model.distillation")
    if section is None:
        raise ConfigurationError(problems)
    archive = NemoArchive(teacher_archives(section)[0])
    with open_dict(model):
        model.update(missing_languages(archive.path, model))
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


def missing_languages(teacher: str | Path, model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the teacher's languages that the student's config leaves null. Text processing depends on them."""
    config = NemoArchive(teacher).config
    return {key: config[key] for key in ("src_language", "tgt_language") if not model.get(key) and config.get(key)}


def sizes_of(archive: NemoArchive) -> dict[str, Any]:
    """Returns the sections of a teacher's config that determine its size."""
    config = OmegaConf.to_container(archive.config)
    sizes = {key: config[key] for key in ("encoder", "decoder", "head") if key in config}
    return sizes | {"shared_embeddings": bool(config.get("shared_embeddings"))}


def teacher_archives(distillation: DistillationSection) -> list[str | Path]:
    """Returns the path of each teacher's `.nemo`, or of the copy in the teacher cache."""
    if distillation.teacher_cache:
        return [cached_teacher_path(distillation.teacher_cache)]
    return list(distillation.teachers)
