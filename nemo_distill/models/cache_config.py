"""Checks whether a training can use its teacher cache, and says on what data a cache depends.

It runs before NeMo is imported.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_distill.decoding.asked_languages import KEYS as LANGUAGES
from nemo_distill.models.distillation_section import TranslationDistillation
from nemo_distill.models.pairing import ACROSS, varying_ids_problems
from nemo_distill.models.student_config import missing_languages, own_tokenizer, student_tokenizers
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import SIDES, read_tags, teaching_problems
from nemo_distill.nemo_files.translation_archive import teacher_archive
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.records import FileEntry
from nemo_distill.teacher_cache.cache import cached_teacher_path, read_manifest
from nemo_distill.text.files import as_list, text_paths
from nemo_distill.text.tarred_data import tar_files
from nemo_distill.text.training_mix import mixed_files

WHERE = "model.distillation.teacher_cache"
# The keys of `model.train_ds` that determine the training pairs, with NeMo's defaults.
PAIR_SELECTION_DEFAULTS = {
    "clean": False,
    "max_seq_length": 512,
    "min_seq_length": 1,
    "max_seq_length_diff": 512,
    "max_seq_length_ratio": 512,
    "reverse_lang_direction": False,
}


def cache_problems(model: Mapping[str, Any], distillation: TranslationDistillation) -> list[str]:
    """Returns the reasons why a model cannot learn from its configured teacher cache, one sentence each.

    Args:
        model: the student's config, resolved.
        distillation: its `distillation` section.
    """
    if distillation.teacher_cache is None:
        return [f"{WHERE} has no value; give it."]
    problems = _option_problems(distillation)
    try:
        made_with = read_manifest(distillation.teacher_cache)["settings"]
        archive = NemoArchive(cached_teacher_path(distillation.teacher_cache))
        problems += varying_ids_problems(model, archive, WHERE)
    except ValueError as error:
        return [*problems, f"{WHERE}: {error}."]
    problems += _teacher_problems(distillation.teachers, made_with["teacher"])
    problems += [
        f"model.distillation.{key}={language}, but {WHERE} was made with {known}; set null to use the cache anyway."
        for key, known in zip(LANGUAGES, made_with.get("languages") or (None, None))
        if (language := getattr(distillation, key)) not in (None, known)
    ]
    problems += _tokenizer_problems(model, distillation, made_with.get("student_tokenizers"))
    problems += _tag_problems({**model, **missing_languages(archive, model)}, archive, made_with.get("tags"))
    return problems + _data_problems(model, made_with)


def _option_problems(distillation: TranslationDistillation) -> list[str]:
    problems = []
    if precision := distillation.teacher_precision:
        problems.append(f"model.distillation.teacher_precision={precision}: has no effect with {WHERE}; set null.")
    if distillation.distilbert_initialization:
        problems.append(f"model.distillation.distilbert_initialization=true copies weights, but {WHERE} holds none.")
    return problems


def _tokenizer_problems(
    model: Mapping[str, Any], distillation: TranslationDistillation, made_for: Mapping[str, str] | None
) -> list[str]:
    """Returns a sentence if the cache was made for a student with other tokenizers."""
    if distillation.across_vocabularies and made_for is None:
        return [f"{ACROSS}=true, but {WHERE} was made for students with the teacher's tokenizers; make another cache."]
    if made_for is None:
        return []
    if not distillation.across_vocabularies:
        return [f"{ACROSS}=false, but {WHERE} was made for a student with other tokenizers than its teacher's."]
    return [
        f"model.{side}_tokenizer.tokenizer_model={own_tokenizer(model, side)}: "
        f"{WHERE} was made for another tokenizer; name that one, or make a cache for this one."
        for side, own in {**dict.fromkeys(SIDES), **student_tokenizers(model)}.items()
        if own != made_for.get(side)
    ]


def _tag_problems(student: Mapping[str, Any], archive: NemoArchive, made_with: Any) -> list[str]:
    """Returns a sentence if the cached teacher read other language tags than the student's teacher must."""
    wanted = None if teaching_problems(student, archive.config) else read_tags(student, archive.config)
    if wanted == made_with:  # another check reports a teacher that does not fit
        return []
    said = "without language tags" if made_with is None else f"for tgt_language={made_with}"
    return [f"model.tgt_language={student.get('tgt_language')}, but {WHERE} was made {said}; make a cache for it."]


def _teacher_problems(paths: Sequence[str], cached: FileEntry) -> list[str]:
    if not paths:
        return []
    if len(paths) > 1:
        return [f"model.distillation.model_path names {len(paths)} teachers; a teacher cache supports only one."]
    try:
        given = teacher_archive(paths[0]).sha256()
    except ValueError as error:
        return [f"model.distillation.model_path: {error}."]
    if given == cached["sha256"]:
        return []
    return [
        f"model.distillation.model_path names '{paths[0]}' with SHA-256 {given[:12]}..., but {WHERE} was made with "
        f"'{cached['name']}' with SHA-256 {cached['sha256'][:12]}...; set model_path=null to use the cache anyway."
    ]


def _data_problems(model: Mapping[str, Any], made_with: Mapping[str, Any]) -> list[str]:
    train_ds = model.get("train_ds") or {}
    problems = [
        f"model.train_ds.{key}={value}, but {WHERE} was made with {made_with.get(key)}; the pairs would differ."
        for key, value in pair_selection(train_ds).items()
        if train_ds and value != made_with.get(key)
    ]
    files = data_files(model)
    if not all(path.is_file() for path in files):  # another check reports missing files
        return problems
    cached = {entry["sha256"] for entry in made_with.get("data", ())}
    return problems + [
        f"model.train_ds: '{path}' is not a file that {WHERE} was made from, or it has changed since."
        for path in files
        if fingerprint(path)["sha256"] not in cached
    ]


def pair_selection(train_ds: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of the keys that determine the training pairs."""
    return {key: train_ds.get(key, default) for key, default in PAIR_SELECTION_DEFAULTS.items()}


def data_files(model: Mapping[str, Any]) -> list[Path]:
    """Returns the training files: those of a mix, or text, or metadata and its tar files."""
    if files := mixed_files(model):
        return files
    train_ds = model.get("train_ds") or {}
    if not train_ds.get("use_tarred_dataset"):
        sources, targets = text_paths(train_ds)
        return sources + targets
    metadata = [user_path(name) for name in as_list(train_ds.get("metadata_file"))]
    return metadata + [tar for file in metadata if file.is_file() for tar in tar_files(file)]
