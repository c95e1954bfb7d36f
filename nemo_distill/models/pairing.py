"""Whether a student can learn from its teachers, and the sentences that say why not."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_distill.core.loss_terms import Widths
from nemo_distill.core.teacher_ensemble import teacher_weights
from nemo_distill.models.distillation_section import distillation_losses, registered_widths
from nemo_distill.models.initialization import initialization_problems
from nemo_distill.models.shared_encoder import shared_encoder_problems
from nemo_distill.models.student_config import sizes_of
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.tokenizer_files import (
    Vocabulary,
    read_vocabulary,
    tokenizer_file_problems,
    vocabulary_differences,
)
from nemo_distill.nemo_files.translation_archive import SIDES, archived_vocabulary, translation_archive
from nemo_distill.text.files import is_file


def pairing_problems(student: Mapping[str, Vocabulary], teacher: Mapping[str, Vocabulary]) -> list[str]:
    """What keeps a student from learning from a teacher token by token; vocabularies are keyed by side."""
    return [problem for side in SIDES for problem in vocabulary_differences(side, student[side], teacher[side])]


def tokenizer_problems(model: Mapping[str, Any], archive: NemoArchive) -> list[str]:
    """Returns what makes a student's ids mean other things than its teacher's, a sentence each."""
    return [
        problem for pair in _vocabulary_pairs(model, archive, archive) for problem in vocabulary_differences(*pair)
    ]


def check_teachers(
    model: Mapping[str, Any], distillation: Mapping[str, Any], paths: Sequence[str | Path]
) -> tuple[list[str], tuple[Widths, Widths] | None]:
    """Returns what keeps the student from learning from its teachers, and its and the first's widths if known."""
    try:
        teacher_weights(distillation.get("teacher_weights"), len(paths))
        archives = [translation_archive(path) for path in paths]
        pairs = [pair for archive in archives for pair in _vocabulary_pairs(model, archive, archives[0])]
    except ValueError as error:
        return [f"model.distillation.model_path: {error}."], None
    first = archives[0].config
    problems = [problem for pair in pairs for problem in vocabulary_differences(*pair)]
    if distillation.get("same_size_as_teacher"):
        model = {**model, **sizes_of(archives[0])}
    if distillation.get("distilbert_initialization"):
        initialization = distillation.get("initialization") or {}
        problems += [f"model.{problem}" for problem in initialization_problems(initialization, model, first)]
    if distillation.get("share_encoder"):
        losses = distillation_losses(distillation)
        problems += [f"model.{problem}" for problem in shared_encoder_problems(model, len(paths), first, losses)]
    return problems, (registered_widths(model), registered_widths(first))


def _vocabulary_pairs(
    model: Mapping[str, Any], archive: NemoArchive, first: NemoArchive
) -> Iterator[tuple[str, Vocabulary, Vocabulary]]:
    """Yields side, student's and teacher's vocabulary, for each side whose two tokenizers are different files.

    The student's is the one that its config names, or else the first teacher's.
    """
    for side in SIDES:
        path = (model.get(f"{side}_tokenizer") or {}).get("tokenizer_model")
        theirs = archived_vocabulary(archive, side)
        if path and tokenizer_file_problems("", path):  # told by itself
            continue
        if path and is_file(path) and theirs:
            yield side, read_vocabulary(Path(path).expanduser()), theirs
        elif not path and archive is not first and theirs and (ours := archived_vocabulary(first, side)):
            yield side, ours, theirs
