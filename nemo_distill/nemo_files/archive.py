"""Reads a `.nemo` file without NeMo: its config, its artifacts and its hash.

A `.nemo` is a tar of a config, weights and artifacts such as tokenizers. NeMo unpacks all of it and takes many seconds
to import; a check of the config needs a few kilobytes and must answer at once.
"""

import os
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, BinaryIO

import yaml
from omegaconf import DictConfig, OmegaConf
from pydantic import AfterValidator

from nemo_distill.nemo_files.archive_safety import TRUST, config_problem, forbidden_targets, is_trusted, member_problem
from nemo_distill.storage.files import UserPath, user_path
from nemo_distill.storage.ledger import sha256_of

CONFIG_NAME = "model_config.yaml"
WEIGHTS = "model_weights"  # what the names of their files hold
# NeMo replaces an artifact's path in the saved config by this prefix and the member's name.
ARTIFACT_PREFIX = "nemo:"


class NemoArchive:
    """A `.nemo` file.

    Args:
        path: the file.

    Raises:
        ValueError: in one sentence, if the file is missing, is no tar, holds no model config, or holds what could do
            harm; see `archive_safety`.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        if not os.path.isfile(self.path):
            raise ValueError(f"there is no file '{self.path}'")
        try:
            with tarfile.open(self.path) as tar:
                problem = member_problem(tar, self.path.stat().st_size)
            content = b"" if problem else self._read(CONFIG_NAME)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(":")  # tarfile says in a line each what it has tried
            raise ValueError(f"'{self.path}' is not a .nemo file: {reason}") from error
        except KeyError as error:
            raise ValueError(f"'{self.path}' is not a .nemo file: it holds no {CONFIG_NAME}") from error
        if problem := problem or config_problem(content):
            raise ValueError(f"'{self.path}' is not opened: {problem}")
        self.config: DictConfig = self._parse(content)

    def _parse(self, content: bytes) -> DictConfig:
        try:
            config = OmegaConf.create(yaml.load(content, Loader=yaml.CSafeLoader))
        except yaml.YAMLError as error:
            raise ValueError(f"'{self.path}' is not opened: {' '.join(str(error).split())}") from error
        if not isinstance(config, DictConfig):
            raise ValueError(f"'{self.path}' is not a .nemo file: its {CONFIG_NAME} is no mapping")
        return config

    def check_targets(self, own_classes: Collection[str] = ()) -> None:
        """Refuses a config that names code to run which is not NeMo's, unless the user trusts the file.

        Args:
            own_classes: full names of classes that are allowed besides.

        Raises:
            ValueError: in one sentence.
        """
        found = forbidden_targets(OmegaConf.to_container(self.config, resolve=False), own_classes)
        if found and not is_trusted(self.path):
            raise ValueError(
                f"'{self.path}' is not opened: its config names '{found[0]}', which is neither NeMo's nor the model's "
                f"own class and would be run; if you trust its author, set {TRUST}={self.sha256()}"
            )

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
        return sha256_of(self.path)

    def _read(self, name: str) -> bytes:
        with tarfile.open(self.path) as tar:
            for member in tar:
                if member.isfile() and member.name.removeprefix("./") == name:
                    return tar.extractfile(member).read()
        raise KeyError(name)


def _is_archive(path: Path) -> Path:
    NemoArchive(path)
    return path


NemoFile = Annotated[UserPath, AfterValidator(_is_archive)]  # of a configuration: a `.nemo` of any model
