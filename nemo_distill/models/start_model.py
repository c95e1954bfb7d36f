"""Checks whether a model can start with the weights of another one (`init_from_nemo_model`)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nemo_distill.models.distillation_section import read_distillation
from nemo_distill.models.initialization import EQUAL_WHOLE_STACK_KEYS, sharing_problem, stack_differences
from nemo_distill.models.pairing import model_vocabulary, reading_order_problems
from nemo_distill.models.student_config import own_tokenizer, sizes_of
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import SIDES, is_hugging_face_encoder
from nemo_distill.nemo_files.tokenizer_files import vocabulary_differences
from nemo_distill.nemo_files.translation_archive import archived_vocabulary, teacher_archive, translation_archive

KEY = "init_from_nemo_model"
TRAINING_KEYS = ("dropout", "initializer_range")  # in Hugging Face's keys of training alone


def start_problems(model: Mapping[str, Any], path: Any, teacher_path: str | Path | None = None) -> list[str]:
    """Returns the reasons why a model cannot start with the weights of a `.nemo`, one sentence each.

    Args:
        model: the config, resolved, with its `distillation` section if it has one.
        path: the `.nemo`.
        teacher_path: the first teacher's `.nemo`, which provides what the student's config does not specify.
    """
    if not isinstance(path, str):
        return [f"{KEY}={path}: must be the path of a .nemo."]
    distillation = read_distillation(model, "distillation")[0] if "distillation" in model else None
    teacher = _opened(teacher_path) if teacher_path else None
    try:
        start = translation_archive(path)
        if distillation and distillation.same_size_as_teacher and teacher:
            model = {**model, **sizes_of(teacher)}
        problems = weight_problems(model, start.config, path) + _start_tokenizer_problems(model, start, teacher)
    except ValueError as error:
        return [f"{KEY}: {error}."]
    return problems + [
        f"{KEY} and model.distillation.{key} both set the initial weights; use only one of them."
        for key in ("distilbert_initialization", "share_encoder")
        if distillation and getattr(distillation, key)
    ]


def weight_problems(model: Mapping[str, Any], start: Mapping[str, Any], path: str | Path) -> list[str]:
    """Returns the reasons why the weights of a model with config `start` do not fit a model with config `model`."""
    problems = [
        f"{KEY}: '{path}' has {side}.{key}={theirs}, model.{side} has {ours}."
        for side in SIDES
        for key, ours, theirs in _differences(side, model, start)
    ]
    if bool(model.get("multilingual")) != bool(start.get("multilingual")):
        problems.append(
            f"{KEY}: '{path}' has multilingual={start.get('multilingual')}, the model {model.get('multilingual')}."
        )
    return problems + sharing_problem(f"{KEY}={path}", model, start)


def _differences(side: str, model: Mapping[str, Any], start: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yields each key of a side whose values differ, with the model's value and that of the one to start from.

    Each class of Hugging Face has its own keys and defaults, so all keys of its encoders are compared as they are.
    """
    ours, theirs = model[side], start[side]
    if side == "decoder" or not (is_hugging_face_encoder(model) and is_hugging_face_encoder(start)):
        yield from stack_differences(side, ours, theirs, EQUAL_WHOLE_STACK_KEYS)
        return
    for key in dict.fromkeys([*theirs, *ours]):
        is_shape = not any(part in key for part in TRAINING_KEYS)
        if is_shape and (ours.get(key) or False) != (theirs.get(key) or False):
            yield key, ours.get(key), theirs.get(key)


def _start_tokenizer_problems(model: Mapping[str, Any], start: NemoArchive, teacher: NemoArchive | None) -> list[str]:
    problems = []
    for side in SIDES:
        where = f"model.{side}_tokenizer"
        path = own_tokenizer(model, side)
        if not path and "distillation" not in model and model.get("preproc_out_dir"):
            problems.append(
                f"{where}.tokenizer_model has no value, so model.preproc_out_dir would train a new tokenizer that "
                f"does not fit {KEY}={start.path}; set it to the tokenizer of that model."
            )
        elif (ours := model_vocabulary(side, model, teacher)) and (theirs := archived_vocabulary(start, side)):
            whose = where if path else f"{where} (the teacher's)"
            problems += vocabulary_differences(whose, ours, theirs, f"{KEY}'s")
    lender = None if teacher is None else teacher.config
    return problems + reading_order_problems(model, start.config, f"{KEY}'s", lender)


def _opened(path: str | Path) -> NemoArchive | None:
    """Returns the opened archive, or None if it is not a valid teacher, which another check reports."""
    try:
        return teacher_archive(path)
    except ValueError:
        return None
