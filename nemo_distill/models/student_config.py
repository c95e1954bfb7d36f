"""Completes a student's config from its teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.core.distillation_section import DistillationSection
from nemo_distill.models.distillation_section import read_distillation
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import LANGUAGE_KEYS, SIDES, is_several
from nemo_distill.nemo_files.tokenizer_files import tokenizer_library
from nemo_distill.nemo_files.translation_archive import teacher_archive
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import sha256_of
from nemo_distill.teacher_cache.cache import cached_teacher_path
from nemo_distill.text.files import is_file

TOKENIZERS = tuple(f"{side}_tokenizer" for side in SIDES)


def complete_student(model: DictConfig, folder: str | Path) -> None:
    """Fills in the parts of a student's config that come from its teacher; see `completed`.

    Tokenizers are copied to `folder`.
    """
    section, problems = read_distillation(OmegaConf.to_container(model, resolve=True), "model.distillation")
    if section is None:
        raise ConfigurationError(problems)
    archive = teacher_archive(teacher_archives(section)[0])
    taken = [f"{side}_tokenizer" for side in SIDES if not own_tokenizer(model, side)]
    with open_dict(model):
        model.update(completed(model, archive, section.same_size_as_teacher))
        for tokenizer in (model[key] for key in taken):
            if name := tokenizer.get("tokenizer_model"):
                path = archive.extract_artifact(name, folder)
                tokenizer.update({"tokenizer_model": str(path), "library": tokenizer_library(path)})


def completed(model: Mapping[str, Any], teacher: NemoArchive, same_size: bool) -> dict[str, Any]:
    """Returns the sections and keys that a student takes from its teacher.

    They are the tokenizers without a file of their own, languages that are null, and the sizes.

    Args:
        model: the student's config.
        teacher: the teacher's `.nemo` or folder, or the copy in its cache.
        same_size: the value of `same_size_as_teacher`.
    """
    taken = missing_languages(teacher, model) | (sizes_of(teacher) if same_size else {})
    for side, key in zip(SIDES, TOKENIZERS):
        if not own_tokenizer(model, side) and teacher.config.get(key):
            taken[key] = OmegaConf.to_container(teacher.config[key])
    return taken


def missing_languages(teacher: NemoArchive, model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the teacher's languages that the student's config leaves null. Text processing depends on them.

    A bilingual student takes no list of languages; `teaching_problems` asks for one of them.
    """
    config = teacher.config
    return {
        key: OmegaConf.to_container(config)[key]
        for key in LANGUAGE_KEYS
        if not model.get(key) and config.get(key) and (model.get("multilingual") or not is_several(config[key]))
    }


def own_tokenizer(model: Mapping[str, Any], side: str) -> Any:
    """Returns the tokenizer file that a student's config names for a side; None if it takes its teacher's."""
    return (model.get(f"{side}_tokenizer") or {}).get("tokenizer_model") or None


def student_tokenizers(model: Mapping[str, Any]) -> dict[str, str]:
    """Returns the SHA-256 of the tokenizer files that a student's config names, by side."""
    paths = {side: own_tokenizer(model, side) for side in SIDES}
    return {side: sha256_of(user_path(path)) for side, path in paths.items() if path and is_file(path)}


def sizes_of(archive: NemoArchive) -> dict[str, Any]:
    """Returns the sections of a teacher's config that determine its size."""
    config = OmegaConf.to_container(archive.config)
    sizes = {key: config[key] for key in ("encoder", "decoder", "head") if key in config}
    return sizes | {"shared_embeddings": bool(config.get("shared_embeddings"))}


def teacher_archives(distillation: DistillationSection) -> list[str | Path]:
    """Returns the path of each teacher, or of the copy in the teacher cache."""
    if distillation.teacher_cache:
        return [cached_teacher_path(distillation.teacher_cache)]
    return list(distillation.teachers)
