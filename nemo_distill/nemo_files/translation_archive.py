"""A `.nemo` of a translation model, read without NeMo."""

import tempfile
from pathlib import Path

from nemo_distill.nemo_files.archive import ARTIFACT_PREFIX, NemoArchive
from nemo_distill.nemo_files.tokenizer_files import MissingPackageError, Vocabulary, read_vocabulary

MT_TARGET = "MTEncDecModel"
SIDES = ("encoder", "decoder")


def translation_archive(path: str | Path) -> NemoArchive:
    """Opens a `.nemo` of a translation model.

    Raises:
        ValueError: in one sentence, if it is none.
    """
    archive = NemoArchive(path)
    target = str(archive.config.get("target", ""))
    if target.rpartition(".")[2] != MT_TARGET:
        raise ValueError(f"'{archive.path}' holds a '{target}', and no {MT_TARGET}")
    archive.check_targets()
    return archive


def archived_vocabulary(archive: NemoArchive, side: str) -> Vocabulary | None:
    """Reads the tokenizer of a side, `encoder` or `decoder`, out of a `.nemo`; None if the file holds none.

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
