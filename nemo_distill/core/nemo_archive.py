"""Reads a `.nemo` file without NeMo: its config, its artifacts and its hash.

A `.nemo` is a tar of a config, weights and artifacts such as tokenizers. NeMo unpacks all of it and takes many seconds
to import; a check of the config needs a few kilobytes and must answer at once.
"""

import hashlib
import tarfile
from pathlib import Path
from typing import BinaryIO

import yaml
from omegaconf import DictConfig, OmegaConf

CONFIG_NAME = "model_config.yaml"
WEIGHTS = "model_weights"  # what the names of their files hold
# NeMo replaces an artifact's path in the saved config by this prefix and the member's name.
ARTIFACT_PREFIX = "nemo:"


class NemoArchive:
    """A `.nemo` file.

    Args:
        path: the file.

    Raises:
        ValueError: in one sentence, if the file is missing, is no tar, or holds no model config.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise ValueError(f"there is no file '{self.path}'")
        try:
            content = self._read(CONFIG_NAME)
        except tarfile.TarError as error:
            raise ValueError(f"'{self.path}' is not a .nemo file: {error}") from error
        except KeyError as error:
            raise ValueError(f"'{self.path}' is not a .nemo file: it holds no {CONFIG_NAME}") from error
        self.config: DictConfig = OmegaConf.create(yaml.safe_load(content))

    def extract_artifact(self, value: str, folder: str | Path) -> Path:
        """Writes the artifact that a config value such as `nemo:1a2b_tokenizer.model` names into `folder`.

        Raises:
            ValueError: if the archive holds no such member.
        """
        name = value.removeprefix(ARTIFACT_PREFIX)
        try:
            content = self._read(name)
        except KeyError as error:
            raise ValueError(f"'{self.path}' holds no '{name}', which its config names") from error
        target = Path(folder) / Path(name).name
        target.write_bytes(content)
        return target

    def copy_without_weights(self, stream: BinaryIO) -> None:
        """Writes a `.nemo` that has all but the weights: the config and the artifacts that it names."""
        with tarfile.open(self.path) as tar, tarfile.open(fileobj=stream, mode="w") as copy:
            for member in tar:
                if member.isfile() and WEIGHTS not in member.name:
                    copy.addfile(member, tar.extractfile(member))

    def sha256(self) -> str:
        """Returns the file's SHA-256 in hexadecimal."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _read(self, name: str) -> bytes:
        with tarfile.open(self.path) as tar:
            for member in tar:
                if member.isfile() and member.name.removeprefix("./") == name:
                    return tar.extractfile(member).read()
        raise KeyError(name)
