"""Reads the `.nemo` of a translation model without NeMo."""

import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from nemo_distill.nemo_files.archive import ARTIFACT_PREFIX, NemoArchive
from nemo_distill.nemo_files.tokenizer_files import MissingPackageError, Vocabulary, read_vocabulary
from nemo_distill.storage.files import UserPath

MT_TARGET = "MTEncDecModel"
SIDES = ("encoder", "decoder")


def translation_archive(path: str | Path) -> NemoArchive:
    """Opens a `.nemo` of a translation model.

    Raises:
        ValueError: if it is not a `.nemo` of a translation model.
    """
    archive = NemoArchive(path)
    target = str(archive.config.get("target", ""))
    if target.rpartition(".")[2] != MT_TARGET:
        raise ValueError(f"'{archive.path}' holds a '{target}' instead of an {MT_TARGET}")
    archive.check_targets()
    return archive


def _is_translation_model(path: Path) -> Path:
    translation_archive(path)
    return path


TranslationFile = Annotated[UserPath, AfterValidator(_is_translation_model)]  # of a configuration: such a `.nemo`


def archived_vocabulary(archive: NemoArchive, side: str) -> Vocabulary | None:
    """Returns the vocabulary of a side, `encoder` or `decoder`, from a `.nemo`; None if it has no tokenizer file.

    Raises:
        MissingPackageError: if its tokenizer needs a package that is not installed; it names the `.nemo`.
        ValueError: in one sentence that names the `.nemo`, if its tokenizer is missing or torn.
    """
    artifact = str((archive.config.get(f"{side}_tokenizer") or {}).get("tokenizer_model") or "")
    if not artifact.startswith(ARTIFACT_PREFIX):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = archive.extract_artifact(artifact, folder)
        try:
            return read_vocabulary(path)
        except MissingPackageError as error:
            raise MissingPackageError(archive.path) from error
        except ValueError as error:
            raise ValueError(f"'{archive.path}' holds a damaged tokenizer: {error.__cause__}") from error
