"""Builds a teacher cache from the configuration of a training."""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_distill.commands.training_check import replaced_sections, tarred_problems, tokenizer_section_problems
from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.config.known_keys import check_trainer, unknown_keys, wrong_values
from nemo_distill.config.section import read_section, section
from nemo_distill.console import console
from nemo_distill.decoding.asked_languages import KEYS as LANGUAGES
from nemo_distill.models.cache_config import data_files, pair_selection
from nemo_distill.models.distillation_section import TranslationDistillation, read_distillation
from nemo_distill.models.pairing import (
    hugging_face_problems,
    model_vocabulary,
    reading_across_problems,
    reading_order_problems,
    swapped_tokenizer_problems,
    vocabulary_problems,
)
from nemo_distill.models.student_config import TOKENIZERS, missing_languages, student_tokenizers
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import (
    LANGUAGE_KEYS,
    SIDES,
    config_width,
    language_file_problems,
    read_tags,
    teaching_problems,
)
from nemo_distill.nemo_files.translation_archive import archived_vocabulary, readable_tokenizers, teacher_archive
from nemo_distill.progress import shown_progress
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.shard_folder import begun_settings
from nemo_distill.teacher_cache.build import TeacherOfPairs, build
from nemo_distill.teacher_cache.cache import TeacherCache
from nemo_distill.teacher_cache.folder import CacheFolder
from nemo_distill.teacher_cache.settings import CacheSettings
from nemo_distill.text.files import data_problems
from nemo_distill.text.training_mix import mix_settings, mix_training_data, training_mix_problems
from nemo_distill.trainer.precision import AUTO, chosen_dtype, warn_of_emulation


@section
class CacheSection(CacheSettings):
    """The section `cache` of the configuration of `cache`."""

    overwrite: bool = False
    """Replace a cache that was made with other settings."""


@dataclass(frozen=True)
class CachingJob:
    """A job with a valid configuration.

    Args:
        settings: those of the cache, with the precision in which the teacher computes.
        train_ds: the data section of the training, with the cache's batch size.
        student: `multilingual`, `src_language` and `tgt_language` of the students that will read the cache, and their
            tokenizers, if they are others than the teacher's.
        languages: the source and target language of a Hugging Face teacher of several.
    """

    folder: CacheFolder
    settings: CacheSection
    train_ds: Mapping[str, Any]
    student: Mapping[str, Any]
    languages: tuple[str | None, str | None]

    def reading(self, train_ds: Mapping[str, Any]) -> "CachingJob":
        """Returns the same job for the files of a mix that has been written."""
        files = {key: train_ds[key] for key in ("src_file_name", "tgt_file_name")}
        return replace(self, train_ds={**self.train_ds, **files})

    def load_teacher(self, device: str, warns: bool = False) -> TeacherOfPairs:
        """Loads the teacher and the training data. If `warns`, prints a warning if source and target seem swapped."""
        from nemo_distill.models.scoring import warn_of_reversed_section
        from nemo_distill.models.translation_teacher import TranslationTeacher  # NeMo's import takes many seconds
        from nemo_distill.nemo_files.nemo_tokenizers import load_nemo_tokenizers

        train_ds = OmegaConf.create(dict(self.train_ds))
        tokenizers = load_nemo_tokenizers(self.student) if TOKENIZERS[0] in self.student else None
        teacher = TranslationTeacher(
            self.folder.teacher,
            train_ds,
            device,
            self.settings.precision,
            self.student,
            self.languages,
            tokenizers,
        )
        if warns:
            warn_of_reversed_section("model.train_ds", teacher.model, self.train_ds)
        return teacher


def check_caching(cfg: DictConfig) -> CachingJob:
    """Returns the job, after checking that the folder holds no cache with other settings.

    Raises:
        ConfigurationError: with every problem found.
    """
    try:
        job = caching_job(cfg)
        changes = job.folder.conflicts()
    except DataError as error:
        raise ConfigurationError([f"model.distillation.teacher_cache: {error}."]) from error
    if changes and not job.settings.overwrite:
        said = f"'{job.folder.path}' holds a teacher cache with other settings: {'; '.join(changes)}"
        remedy = "give another folder, or start over with cache.overwrite=true"
        raise ConfigurationError([f"model.distillation.teacher_cache: {said}; {remedy}."])
    return job


def caching_job(cfg: DictConfig) -> CachingJob:
    """Returns the job of a configuration, that of a distillation with a `cache` section.

    Raises:
        ConfigurationError: with every problem found.
    """
    if problems := replaced_sections(cfg):
        raise ConfigurationError(problems)
    values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    model = values["model"]
    settings, problems = read_section(CacheSection, values.get("cache"), "cache")
    section, section_problems = read_distillation(model, "model.distillation")
    # The training itself will report its other problems.
    problems += [problem for problem in section_problems if problem.startswith("model.distillation.mix")]
    problems += _job_problems(cfg, values) + (training_mix_problems(model, section.mix) if section else [])
    if settings and not problems:
        problems = _across_problems(model, section) or _teacher_problems(model, section, settings.k)
    if settings is None or problems:
        raise ConfigurationError(problems)
    teacher, train_ds = user_path(model["distillation"]["model_path"]), model["train_ds"]
    archive, student = teacher_archive(teacher), _languages(model)
    languages = tuple(model["distillation"].get(key) for key in LANGUAGES)
    across = bool(model["distillation"].get("across_vocabularies"))
    if across:
        student |= {key: model[key] for key in TOKENIZERS}
    path = user_path(model["distillation"]["teacher_cache"])
    accelerator = cfg.trainer.get("accelerator") or "auto"
    settings = replace(settings, precision=_precision(settings.precision, path, archive, accelerator))
    recorded = {
        "teacher": fingerprint(teacher),
        "tokenizers": _tokenizer_hashes(archive),
        **({"languages": languages} if any(languages) else {}),
        **({"student_tokenizers": student_tokenizers(model)} if across else {}),
        **({"tags": tags} if (tags := read_tags(student, archive.config)) else {}),
        **{field.name: getattr(settings, field.name) for field in fields(CacheSettings)},
        **pair_selection(train_ds),
        "data": [fingerprint(path) for path in data_files(model)],
        "mix": mix_settings(model),
    }
    batched = {**train_ds, "tokens_in_batch": settings.tokens_in_batch}
    return CachingJob(CacheFolder(path, recorded, teacher), settings, batched, student, languages)


def _precision(precision: str, folder: Path, teacher: NemoArchive, accelerator: str) -> Any:
    """Returns the teacher's precision. For `auto` it is that of the cache that was begun, or chosen and printed."""
    if precision == AUTO:
        begun = begun_settings(folder).get("precision")
        precision = begun or chosen_dtype("cache.precision", config_width(teacher.config), accelerator)
    warn_of_emulation("cache.precision", precision, accelerator)
    return precision


def _languages(model: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the languages of the students, those that are null taken from the teacher."""
    own = {key: model.get(key) for key in ("multilingual", *LANGUAGE_KEYS)}
    return own | missing_languages(teacher_archive(model["distillation"]["model_path"]), own)


def _job_problems(cfg: DictConfig, values: Mapping[str, Any]) -> list[str]:
    model = values["model"]
    distillation = model.get("distillation") or {}
    # The training itself will report its other problems.
    problems = [problem for problem in check_missing(cfg) if problem.startswith(("model.train_ds", "cache."))]
    problems += [problem for problem in unknown_keys(values) if problem.startswith(("model.train_ds ", "trainer "))]
    problems += check_trainer(values["trainer"])
    problems += [problem for problem in wrong_values(values) if problem.startswith(("model.train_ds.", "trainer."))]
    problems += data_problems("model.train_ds", model.get("train_ds") or {})
    problems += tarred_problems(model) if not model.get("preproc_out_dir") else []
    if not model.get("train_ds"):
        problems.append("model.train_ds is missing; it names the pairs that the teacher runs over.")
    if model.get("preproc_out_dir"):
        problems.append(
            "model.preproc_out_dir: a cache is of data that is there; write it first, with do_training=false."
        )
    if not distillation.get("teacher_cache"):
        problems.append("model.distillation.teacher_cache has no value; it names the folder that is made.")
    return problems + _path_problems(distillation.get("model_path"))


def _path_problems(path: Any) -> list[str]:
    if not isinstance(path, str) or path == "???":
        return [f"model.distillation.model_path={path}: must be one teacher's .nemo or folder."]
    try:
        readable_tokenizers(teacher_archive(path))
    except ValueError as error:
        return [f"model.distillation.model_path: {error}."]
    return []


def _across_problems(model: Mapping[str, Any], section: TranslationDistillation | None) -> list[str]:
    """Returns the problems of the student's tokenizers, if they are not the teacher's."""
    if section is None or not section.across_vocabularies:
        return []
    problems = [problem for side in SIDES for problem in tokenizer_section_problems(side, model, True)]
    if not problems:
        archive = teacher_archive(model["distillation"]["model_path"])
        problems = reading_across_problems(model, archive, vocabulary_problems(model, archive, archive))
        problems += reading_order_problems(model, archive.config)
    return problems


def _teacher_problems(model: Mapping[str, Any], section: TranslationDistillation | None, k: int | None) -> list[str]:
    """Returns a sentence for each setting that a readable teacher cannot follow."""
    archive, student = teacher_archive(model["distillation"]["model_path"]), _languages(model)
    problems = teaching_problems(student, archive.config)
    problems += hugging_face_problems(replace(section, teacher_cache=None), [archive]) if section else []
    problems = problems or language_file_problems({**student, "train_ds": model["train_ds"]})
    own = model if model["distillation"].get("across_vocabularies") else {}
    problems += swapped_tokenizer_problems({**own, "train_ds": model["train_ds"]}, archive)
    if model["distillation"].get("across_vocabularies"):
        vocabulary, whose = model_vocabulary("decoder", model), "student"
    else:
        vocabulary, whose = archived_vocabulary(archive, "decoder"), "teacher"
    if k is not None and vocabulary is not None and k > (most := len(vocabulary.pieces)):
        problems.append(f"cache.k={k}: the {whose} knows {most} words; null keeps all of them.")
    return problems


def _tokenizer_hashes(archive: NemoArchive) -> dict[str, str]:
    """Returns the SHA-256 of each side's tokenizer file, if it has one."""
    names = {side: (archive.config.get(f"{side}_tokenizer") or {}).get("tokenizer_model") for side in SIDES}
    return {side: hashlib.sha256(archive.artifact(name)).hexdigest() for side, name in names.items() if name}


def cache_teacher(job: CachingJob, rank: int, world_size: int, device: str) -> None:
    """Writes this process's shards. If the cache is already finished, verifies all checksums.

    Raises:
        DataError: if the data or a finished cache cannot be used.
    """
    folder = job.folder
    if not job.settings.overwrite and folder.manifest():
        folder.verify()
    with shown_progress("caching", 1.0, shown=rank == 0) as on_progress:
        load_teacher = partial(job.load_teacher, device, warns=rank == 0)
        manifest = build(folder, job.settings, load_teacher, rank, world_size, job.settings.overwrite, on_progress)
    if manifest is None:
        console.info("This process has made its shards; others have not yet.")
        return
    TeacherCache(folder.path)
    size = manifest["tokens"] * manifest["bytes_per_token"] / 1e6
    console.info(
        f"Teacher cache in {folder.path}: {manifest['pairs']:,} pairs, {manifest['tokens']:,} tokens of "
        f"{manifest['bytes_per_token']} bytes, {size:,.0f} MB."
    )


def main(cfg: DictConfig) -> None:
    job = checked(cfg, check_caching)

    from nemo_distill.commands.processes import processes  # Lightning's import takes seconds: after the check

    given = {key: cfg.trainer.get(key) for key in ("accelerator", "devices", "num_nodes")}
    where = {key: value for key, value in given.items() if value is not None}
    started = processes(**where, section="trainer.")
    with plain_errors(goes_on=True), started as process, tempfile.TemporaryDirectory() as folder:
        mix_training_data(cfg.model, folder)
        job = job.reading(cfg.model.train_ds)
        cache_teacher(job, process.rank, process.world_size, process.device)
