"""Checks whether a student fits its teachers.

Weights of the same shape can still have different meanings: each row of an embedding belongs to one tokenizer piece. A
student with shared embeddings cannot take two different matrices.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.core.loss_terms import Widths
from nemo_distill.decoding.asked_languages import KEYS as LANGUAGES
from nemo_distill.decoding.asked_languages import not_asked_for
from nemo_distill.decoding.hugging_face_text import read_folder
from nemo_distill.models.distillation_section import TranslationDistillation, registered_widths
from nemo_distill.models.initialization import initialization_problems, shared_encoder_problems
from nemo_distill.models.student_config import completed, own_tokenizer, sizes_of
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.hugging_face_folder import HuggingFaceFolder
from nemo_distill.nemo_files.model_kinds import (
    SIDES,
    is_hugging_face_model,
    is_tagged,
    kind_problems,
    language_file_problems,
    tag_of,
    teaching_problems,
)
from nemo_distill.nemo_files.tokenizer_files import (
    Vocabulary,
    piece_differences,
    read_vocabulary,
    tokenizer_file_problems,
    vocabulary_differences,
)
from nemo_distill.nemo_files.translation_archive import archived_vocabulary, teacher_archive
from nemo_distill.storage.files import user_path

# Options that need the teacher's layers as NeMo has them.
OF_NEMO_ALONE = ("same_size_as_teacher", "distilbert_initialization", "share_encoder")
DATA_SECTIONS = ("train_ds", "validation_ds", "test_ds")
ACROSS = "model.distillation.across_vocabularies"
OF_ALL_POSITIONS = ("SpanLikelihoodLoss", "SortedProbabilitiesLoss")  # the losses that count unpaired positions too
TOKENIZER_OPTIONS = ("bpe_dropout", "r2l", "sentencepiece_legacy")


def pairing_problems(
    student: Mapping[str, Vocabulary],
    other: Mapping[str, Vocabulary],
    whose: str = "the teacher's",
    compared: Callable[..., list[str]] = vocabulary_differences,
) -> list[str]:
    """Returns a sentence for each difference between the vocabularies of a student and of another model, by side."""
    return [
        problem for side in SIDES for problem in compared(f"model.{side}_tokenizer", student[side], other[side], whose)
    ]


def or_across(differences: Sequence[str]) -> list[str]:
    """Returns sentences about differences from the teacher's vocabulary, with the key that allows them."""
    return [f"{one.removesuffix('.')}; {ACROSS}=true allows another vocabulary." for one in differences]


def reading_across_problems(model: Mapping[str, Any], teacher: NemoArchive, differences: Sequence[str]) -> list[str]:
    """Returns the reasons why a teacher with other pieces cannot read for a student, one sentence each.

    Args:
        model: the student's config.
        teacher: the teacher.
        differences: what differs between the vocabularies.
    """
    where, problems = f"{ACROSS}=true", []
    for side in SIDES:
        if not own_tokenizer(model, side):
            key = f"model.{side}_tokenizer.tokenizer_model"
            problems.append(f"{where}: {key} has no value; name the student's tokenizer.")
    if not differences and not problems:
        problems.append(f"{where} has no effect, because the student has its teacher's vocabulary; set it to false.")
    problems += [
        f"{where}: positions are paired from left to right; set model.{side}_tokenizer.r2l=false."
        for side in SIDES
        if (model.get(f"{side}_tokenizer") or {}).get("r2l")
    ]
    for side in SIDES:
        ours, theirs = model_vocabulary(side, model, teacher), archived_vocabulary(teacher, side)
        if ours and theirs and ours.has_final_spaces != theirs.has_final_spaces:
            problems.append(
                f"{where}: the pieces of one {side} tokenizer end with a space, those of the other begin with one, so "
                f"that no positions can be paired; train model.{side}_tokenizer.tokenizer_model with the teacher's "
                "treat_whitespace_as_suffix."
            )
    if model.get("multilingual"):
        problems.append(f"{where}: not supported with model.multilingual=true; train a student for each language.")
    return problems


def training_across_problems(distillation: TranslationDistillation) -> list[str]:
    """Returns a sentence for each option that a training across vocabularies rules out."""
    where, problems = f"{ACROSS}=true", []
    if distillation.share_encoder:
        problems.append(
            f"{where}: the teacher's encoder reads other pieces; set model.distillation.share_encoder=false."
        )
    if distillation.distilbert_initialization and distillation.initialization.embeddings:
        problems.append(
            f"{where}: the teacher's embeddings are of other pieces; set "
            "model.distillation.initialization.embeddings=false."
        )
    of_all_positions = any(
        str(node.get("_target_")).endswith(OF_ALL_POSITIONS) and node.get("weight", 1) != 0
        for node in distillation.loss.values()
    )
    if distillation.student_weight.is_zero and not of_all_positions:
        problems.append(
            f"{where}: only the student's own loss trains the positions that the teacher's segmentation lacks; set "
            "model.distillation.student_train_loss_weight above 0, as distillation=word_level does."
        )
    return problems


def reading_order_problems(
    model: Mapping[str, Any],
    other: Mapping[str, Any],
    whose: str = "the teacher's",
    lender: Mapping[str, Any] | None = None,
) -> list[str]:
    """Returns a sentence for each side that one model reads from right to left and the other does not.

    Args:
        model: the config of the model.
        other: the config of the model that must have the same order.
        whose: names the other model in the messages.
        lender: the config that provides the tokenizer of a side without its own; None: `other`.
    """
    problems = []
    for side in SIDES:
        key = f"{side}_tokenizer"
        own = (model if own_tokenizer(model, side) else lender or other).get(key) or {}
        theirs = other.get(key) or {}
        if bool(own.get("r2l")) != bool(theirs.get("r2l")):
            problems.append(
                f"model.{key} has r2l={own.get('r2l')}, {whose} {theirs.get('r2l')}; they must be the same."
            )
    return problems


def check_teachers(
    model: Mapping[str, Any], distillation: TranslationDistillation, paths: Sequence[str | Path]
) -> tuple[list[str], tuple[Widths, Widths] | None]:
    """Returns the problems of the student with its teachers, and the layer widths of student and first teacher."""
    if problems := teacher_file_problems(paths):
        return problems, None
    archives = [teacher_archive(path) for path in paths]
    whole = {**model, **completed(model, archives[0], distillation.same_size_as_teacher)}
    if problems := _kind_problems(whole, archives):
        return problems, None
    try:
        differences = [one for archive in archives for one in vocabulary_problems(model, archive, archives[0])]
    except ValueError as error:
        return [f"model.distillation.model_path: {error}."], None
    first = archives[0].config
    problems = _tag_problems(whole, distillation, first) + _tokenizer_option_problems(model, first)
    if distillation.across_vocabularies:
        problems += reading_across_problems(model, archives[0], differences) + training_across_problems(distillation)
    else:
        problems += or_across(differences)
    for archive in archives:
        problems += reading_order_problems(model, archive.config, lender=first) + _head_problems(archive)
    if found := hugging_face_problems(distillation, archives):
        return problems + found, None
    if distillation.same_size_as_teacher:
        model = {**model, **sizes_of(archives[0])}
    else:
        problems += shared_embedding_problems(model, archives[0])
    if distillation.distilbert_initialization:
        problems += initialization_problems(distillation.initialization, model, first)
    if distillation.share_encoder:
        problems += shared_encoder_problems(model, distillation, len(paths), first)
    return problems, (registered_widths(model), registered_widths(first))


def _kind_problems(model: Mapping[str, Any], teachers: Sequence[NemoArchive]) -> list[str]:
    """Returns the reasons why NeMo cannot build a student, or why a teacher cannot teach it.

    Args:
        model: the student's config, with what it takes from its first teacher.
        teachers: the teachers.
    """
    problems = [
        f"{problem} ('{teacher.path}')" if len(teachers) > 1 else problem
        for teacher in teachers
        for problem in teaching_problems(model, teacher.config)
    ]
    return problems or kind_problems(model, "model.") or language_file_problems(model)


def _tag_problems(
    model: Mapping[str, Any], distillation: TranslationDistillation, teacher: Mapping[str, Any]
) -> list[str]:
    """Returns a sentence for each option that does not go with the language tags of student or teacher."""
    problems = []
    if is_tagged(model) and distillation.mix.corpora:
        problems.append(
            "model.distillation.mix.corpora: text that is mixed loses its language, which a model of several target "
            "languages needs; mix each language for itself, with 'nemo-distill mix'."
        )
    if distillation.share_encoder and (tag := tag_of(model, teacher)):
        problems.append(
            f"model.distillation.share_encoder: the teacher's encoder needs the language tag <{tag}>, which the "
            "student's sources do not have; set it to false."
        )
    return problems


def _tokenizer_option_problems(model: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each option of a tokenizer that is not used, because the teacher's tokenizer is."""
    problems = []
    for key in (f"{side}_tokenizer" for side in SIDES if not own_tokenizer(model, side)):
        own, theirs = model.get(key) or {}, teacher.get(key) or {}
        problems += [
            f"model.{key}.{option}={value} has no effect, because the student has its teacher's tokenizer, with "
            f"{option}={theirs.get(option)}; name a file in model.{key}.tokenizer_model."
            for option in TOKENIZER_OPTIONS
            if (value := own.get(option)) and value != theirs.get(option)
        ]
    return problems


def teacher_file_problems(paths: Sequence[str | Path]) -> list[str]:
    """Returns a sentence for each teacher that cannot be read, or is neither a `.nemo` nor a folder that can teach."""
    problems = []
    for path in paths:
        try:
            teacher_archive(path)
        except ValueError as error:
            problems.append(f"model.distillation.model_path: {error}.")
    return problems


def shared_embedding_problems(model: Mapping[str, Any], teacher: NemoArchive | None = None) -> list[str]:
    """Returns a sentence if one embedding matrix would be used for two different vocabularies.

    Args:
        model: the config of the model.
        teacher: provides the tokenizer of a side without its own.
    """
    if not model.get("shared_embeddings"):
        return []
    if not model.get("shared_tokenizer", True):
        return ["model.shared_embeddings=true needs one tokenizer for both sides; set model.shared_tokenizer=true."]
    encoder, decoder = (model_vocabulary(side, model, teacher) for side in SIDES)
    if not encoder or not decoder or encoder.pieces == decoder.pieces:
        return []
    return [
        "model.shared_embeddings=true needs one vocabulary, but the tokenizers of encoder and decoder differ: they "
        f"have {len(encoder.pieces)} and {len(decoder.pieces)} pieces; set model.shared_embeddings=false."
    ]


def swapped_tokenizer_problems(model: Mapping[str, Any], teacher: NemoArchive | None = None) -> list[str]:
    """Returns a sentence for each data section whose sides would be read with the tokenizers of each other.

    Args:
        model: the config of the model.
        teacher: provides the tokenizer of a side without its own.
    """
    swapped = [name for name in DATA_SECTIONS if (model.get(name) or {}).get("reverse_lang_direction")]
    encoder, decoder = (model_vocabulary(side, model, teacher) for side in SIDES) if swapped else (None, None)
    if encoder == decoder and (encoder or model.get("shared_tokenizer", True)):
        return []
    return [
        f"model.{name}.reverse_lang_direction=true: NeMo turns text into ids before it swaps the sides, which needs "
        "one tokenizer for both; set it to false, and swap src_file_name and tgt_file_name."
        for name in swapped
    ]


def model_vocabulary(side: str, model: Mapping[str, Any], teacher: NemoArchive | None = None) -> Vocabulary | None:
    """Returns the vocabulary of a side, from the model's own file or the teacher. None if it cannot be read."""
    path = own_tokenizer(model, side)
    if path is None:
        return archived_vocabulary(teacher, side) if teacher else None
    return None if tokenizer_file_problems("", path, adds_tokens=True) else read_vocabulary(user_path(path))


def varying_ids_problems(model: Mapping[str, Any], teacher: NemoArchive, reader: str) -> list[str]:
    """Returns a sentence for each of a student's tokenizers whose BPE-dropout varies the ids of a sentence.

    Args:
        model: the student's config, resolved.
        teacher: provides the tokenizer of a side without its own.
        reader: the key that needs the ids of pairs.
    """
    problems = []
    for side in SIDES:
        key = f"{side}_tokenizer"
        # A student without its own tokenizer file uses the teacher's tokenizer with all settings.
        tokenizer = (model if own_tokenizer(model, side) else teacher.config).get(key) or {}
        vocabulary = model_vocabulary(side, model, teacher)
        # NeMo 2 has no dropout for sentencepiece; another check refuses the student's.
        if (dropout := tokenizer.get("bpe_dropout")) and vocabulary and vocabulary.library == "yttm":
            problems.append(
                f"model.{key} has bpe_dropout={dropout}, so the ids of a sentence vary and do not match {reader}; "
                f"set model.{key}.tokenizer_model, with bpe_dropout=null."
            )
    return problems


def _head_problems(teacher: NemoArchive) -> list[str]:
    """Returns a sentence if a teacher's outputs are not log-probabilities, which all losses need."""
    if (teacher.config.get("head") or {}).get("log_softmax", True):
        return []
    return [f"model.distillation.model_path: '{teacher.path}' has head.log_softmax=false; it must be true."]


def vocabulary_problems(model: Mapping[str, Any], archive: NemoArchive, first: NemoArchive) -> list[str]:
    """Returns a sentence for each difference between a student's vocabularies and a teacher's.

    A Hugging Face teacher finds the student's ids by their pieces. All others must have the same ids.

    Args:
        model: the student's config.
        archive: the teacher.
        first: the first of the teachers, which provides the tokenizer of a side without its own.
    """
    compared = piece_differences if isinstance(archive, HuggingFaceFolder) else vocabulary_differences
    problems = []
    for side in SIDES:
        path, theirs = own_tokenizer(model, side), archived_vocabulary(archive, side)
        if theirs is None or (path is None and archive is first):
            continue
        if ours := model_vocabulary(side, model, first):  # another check reports a file that cannot be read
            problems += compared(f"model.{side}_tokenizer", ours, theirs)
    return problems


def hugging_face_problems(distillation: TranslationDistillation, teachers: Sequence[NemoArchive]) -> list[str]:
    """Returns a sentence for each option that a Hugging Face teacher has no use for, or that it lacks.

    Args:
        distillation: the section.
        teachers: the teachers, or the copy in a teacher cache.
    """
    languages = [getattr(distillation, key) for key in LANGUAGES]
    folders = [teacher for teacher in teachers if isinstance(teacher, HuggingFaceFolder)]
    problems = [] if folders or distillation.teacher_cache else not_asked_for(languages, "a .nemo")
    for folder in folders:
        try:
            problems += read_folder(folder.path, languages, fast=False)[2]
        except ConfigurationError as error:
            problems += [f"model_path{problem.removeprefix('model')}" for problem in error.problems]
    found = [teacher.path for teacher in teachers if is_hugging_face_model(teacher.config)]
    return [f"model.distillation.{problem}" for problem in problems] + [
        f"model.distillation.{key}=true: needs a teacher's .nemo, and '{found[0]}' is a model of Hugging Face."
        for key in OF_NEMO_ALONE
        if found and getattr(distillation, key)
    ]
