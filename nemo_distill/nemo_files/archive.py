"""Reads a `.nemo` file without NeMo: its config, its artifacts and its hash.

A `.nemo` is a tar archive of a config, weights and artifacts such as tokenizers. NeMo unpacks the whole archive and
takes many seconds to import. A check of the config needs only a few kilobytes and must be fast.
"""

import os
import tarfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, BinaryIO

import yaml
from omegaconf import DictConfig, OmegaConf
from pydantic import AfterValidator

from nemo_distill.nemo_files.archive_safety import TRUST, config_problem, forbidden_parts, is_trusted, member_problem
from nemo_distill.storage.files import UserPath, missing_content, user_path
from nemo_distill.storage.ledger import sha256_of

CONFIG_NAME = "model_config.yaml"
WEIGHTS = "model_weights"  # part of the file names of weights
# In the saved config, NeMo replaces the path of an artifact with this prefix and the member's name.
ARTIFACT_PREFIX = "nemo:"
OF_MARIAN = (
    "it looks like a model of Marian itself. Convert it to a Hugging Face folder, or give its translations to "
    "nemo-distill label with engine=file"
)


class NemoArchive:
    """A `.nemo` file.

    Raises:
        ValueError: if the file is missing, is not a tar archive, has no model config, or is not safe to open; see
            `archive_safety`.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        if not os.path.isfile(self.path):
            is_folder = os.path.isdir(self.path)
            raise ValueError(
                f"'{self.path}' is a folder; it must be a .nemo" if is_folder else f"there is no file '{self.path}'"
            )
        try:
            with tarfile.open(self.path) as tar:
                problem = member_problem(tar, self.path.stat().st_size)
            content = b"" if problem else self._read(CONFIG_NAME)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(":")  # tarfile gives one line per compression that it tried
            reason = OF_MARIAN if self.path.suffix == ".npz" else reason
            raise ValueError(missing_content(self.path) or f"'{self.path}' is not a .nemo file: {reason}") from error
        except KeyError as error:
            raise ValueError(f"'{self.path}' is not a .nemo file: it has no {CONFIG_NAME}") from error
        if problem := problem or config_problem(content):
            raise ValueError(f"'{self.path}' is not opened: {problem}")
        self.config: DictConfig = self._parse(content)

    def _parse(self, content: bytes) -> DictConfig:
        try:
            values = yaml.load(content, Loader=yaml.CSafeLoader)
        except yaml.YAMLError as error:
            raise ValueError(f"'{self.path}' is not opened: {' '.join(str(error).split())}") from error
        if not isinstance(values, dict):
            raise ValueError(f"'{self.path}' is not a .nemo file: its {CONFIG_NAME} is not a mapping")
        return OmegaConf.create(values)

    def check_targets(self, own_classes: Collection[str] = ()) -> None:
        """Rejects a config that names code that opening it must not run, unless the user trusts the file.

        Args:
            own_classes: full names of additional allowed classes.

        Raises:
            ValueError: if the config names such a class or function.
        """
        found = forbidden_parts(OmegaConf.to_container(self.config, resolve=False), own_classes)
        if found and not is_trusted(self.path):
            raise ValueError(
                f"'{self.path}' is not opened: its config has '{found[0]}', and loading it could run code or read "
                f"other files; if you trust the author, set {TRUST}={self.sha256()}"
            )

    def artifact(self, value: str) -> bytes:
        """Returns an artifact. `value` is its name in the config, such as `nemo:1a2b_tokenizer.model`.

        Raises:
            ValueError: if the archive has no such member.
        """
        name = value.removeprefix(ARTIFACT_PREFIX)
        try:
            return self._read(name)
        except KeyError as error:
            raise ValueError(f"'{self.path}' has no member '{name}', which its config names") from error

    def extract_artifact(self, value: str, folder: str | Path) -> Path:
        """Writes an artifact to `folder`, under its own name. See `artifact`."""
        target = Path(folder) / Path(value.removeprefix(ARTIFACT_PREFIX)).name
        target.write_bytes(self.artifact(value))
        return target

    def copy_without_weights(self, stream: BinaryIO) -> None:
        """Writes a copy of the `.nemo` with config and artifacts but without weights."""
        with tarfile.open(self.path) as tar, tarfile.open(fileobj=stream, mode="w") as copy:
            for member in tar:
                if member.isfile() and WEIGHTS not in member.name:
                    copy.addfile(member, tar.extractfile(member))

    def sha256(self) -> str:
        """Returns the SHA-256 of the file in hexadecimal."""
        return sha256_of(self.path)

    def _read(self, name: str) -> bytes:
        with tarfile.open(self.path) as tar:
            for member in tar:
                if member.name.removeprefix("./") == name and (stream := tar.extractfile(member)):
                    return stream.read()
        raise KeyError(name)


def opened_by(open_archive: Callable[[Path], NemoArchive]) -> AfterValidator:
    """Returns what validates a path of a configuration: a function that opens it, or raises a `ValueError`."""

    def check(path: Path) -> Path:
        open_archive(path)
        return path

    return AfterValidator(check)


NemoFile = Annotated[UserPath, opened_by(NemoArchive)]  # of a configuration: a `.nemo` of any model
