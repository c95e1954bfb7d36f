"""Reads the `.nemo` of a translation model without NeMo."""

import tempfile
from pathlib import Path
from typing import Annotated

from nemo_distill.nemo_files.archive import ARTIFACT_PREFIX, NemoArchive, opened_by
from nemo_distill.nemo_files.hugging_face_folder import HuggingFaceFolder
from nemo_distill.nemo_files.model_kinds import (
    BY_FILE,
    MT_TARGET,
    SIDES,
    is_hugging_face_model,
    kind_problems,
    size_problems,
)
from nemo_distill.nemo_files.tokenizer_files import (
    MissingPackageError,
    Vocabulary,
    missing_special_tokens,
    read_vocabulary,
)
from nemo_distill.storage.files import UserPath, user_path

# NeMo's other classes of translation models. Those that are not here are of another task.
OTHER_TRANSLATION_MODELS = ("MTBottleneckModel", "TransformerMTModel", "MegatronNMTModel")


def translation_archive(path: str | Path) -> NemoArchive:
    """Opens a `.nemo` of a translation model.

    Raises:
        ValueError: in one sentence, if it is not a `.nemo` of a translation model that NeMo 2 can run.
    """
    archive = NemoArchive(path)
    target = str(archive.config.get("target", ""))
    if (name := target.rpartition(".")[2]) != MT_TARGET:
        other = f"; {BY_FILE}" if name in OTHER_TRANSLATION_MODELS else ""
        raise ValueError(f"'{archive.path}' holds a '{target}' instead of an {MT_TARGET}{other}")
    archive.check_targets()
    if problems := kind_problems(archive.config) or size_problems(archive.config):
        raise ValueError(f"'{archive.path}' cannot be run: {problems[0].removesuffix('.')}")
    return archive


def teacher_archive(path: str | Path) -> NemoArchive:
    """Opens what can teach: a `.nemo` of a translation model, a Hugging Face folder, or a teacher cache's copy of one.

    Raises:
        ValueError: in one sentence, if it is none of these.
    """
    if user_path(path).is_dir():
        return HuggingFaceFolder(path)
    archive = NemoArchive(path)
    if not is_hugging_face_model(archive.config):
        return translation_archive(path)
    archive.check_targets([archive.config.target])  # the copy in a teacher cache
    return archive


def readable_tokenizers(archive: NemoArchive) -> NemoArchive:
    """Checks both tokenizers of a translation model. NeMo finds their faults late, with a stack trace.

    Raises:
        ValueError: see `archived_vocabulary`.
    """
    for side in SIDES:
        archived_vocabulary(archive, side)
    return archive


def bilingual_archive(path: str | Path) -> NemoArchive:
    """Opens a `.nemo` of a translation model that can score pairs of sentences.

    Raises:
        ValueError: in one sentence, if it is multilingual, or cannot be run; see `translation_archive`.
    """
    archive = readable_tokenizers(translation_archive(path))
    if archive.config.get("multilingual"):
        raise ValueError(f"'{archive.path}' is multilingual; scoring does not support multilingual models")
    return archive


# Of a configuration: such a `.nemo`.
TranslationFile = Annotated[UserPath, opened_by(translation_archive)]
TeacherPath = Annotated[UserPath, opened_by(teacher_archive)]
BilingualFile = Annotated[UserPath, opened_by(bilingual_archive)]


def archived_vocabulary(archive: NemoArchive, side: str) -> Vocabulary | None:
    """Returns the vocabulary of a side, `encoder` or `decoder`, from a `.nemo`; None if it has no tokenizer file.

    Raises:
        MissingPackageError: if its tokenizer needs a package that is not installed; it names the `.nemo`.
        ValueError: in one sentence that names the `.nemo`, if its tokenizer is missing, torn, or lacks special tokens.
    """
    tokenizer = archive.config.get(f"{side}_tokenizer") or {}
    artifact = str(tokenizer.get("tokenizer_model") or "")
    if not artifact.startswith(ARTIFACT_PREFIX):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = archive.extract_artifact(artifact, folder)
        try:
            vocabulary = read_vocabulary(path)
        except MissingPackageError as error:
            raise MissingPackageError(archive.path) from error
        except ValueError as error:
            raise ValueError(f"'{archive.path}' holds a damaged tokenizer: {error.__cause__}") from error
    if not tokenizer.get("sentencepiece_legacy") and (missing := missing_special_tokens(vocabulary)):
        raise ValueError(f"'{archive.path}' holds {side}_tokenizer without {missing}, which NeMo 2 cannot restore")
    return vocabulary
