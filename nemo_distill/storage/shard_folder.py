"""A folder that a long job fills shard by shard: what it is made with, its shards, and the manifest that closes it.

`settings.json` is written first, and says what every shard is made with; `shards/` holds them; `manifest.json` is
written last, with the settings, what was counted, checksums and versions.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import with_config
from typing_extensions import TypedDict

import nemo_distill
from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import folder_lock, remove_leftovers, versions
from nemo_distill.storage.folder_safety import inside
from nemo_distill.storage.ledger import Work, differences, sha256_of
from nemo_distill.storage.records import OPEN, FileEntry

PACKAGES = ("torch", "nemo_toolkit", "ctranslate2", "sentencepiece", "sacrebleu")


class ShardError(DataError):
    """Shards that are not what they should be, each once and in order; the sentence names the file."""


def used_versions() -> dict[str, str]:
    """Returns the versions that shards may depend on."""
    own = {"python": sys.version.split()[0], "nemo_distill": nemo_distill.__version__}
    return own | versions(PACKAGES)


@with_config(OPEN)
class ShardManifest(TypedDict):
    """What the manifest of every such folder holds."""

    settings: dict[str, Any]
    shards: list[FileEntry]


class ShardFolder:
    """Where a job with certain settings writes its shards.

    Args:
        path: the folder; made when it is taken.
        settings: everything that the shards depend on, as JSON has it.
    """

    holds = "shards"  # what they are, for sentences
    manifest_shape: type = ShardManifest

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        self.shards = path / "shards"
        self.begun_path = path / "settings.json"
        self.work = Work(path / "manifest.json", settings, self.begun_path, shape=self.manifest_shape)
        self.settings, self.digest = self.work.settings, self.work.digest
        self.manifest_path = self.work.finished_path

    def shard(self, index: int) -> Path:
        """Returns the file of the shard of this number; where a shard is of several files, the one written last."""
        raise NotImplementedError

    def lacks(self, index: int, rank: int, world_size: int) -> bool:
        """True if the shard of this number is for process `rank` of `world_size` to make, and is not there."""
        return index % world_size == rank and not self.shard(index).is_file()

    def conflicts(self) -> list[str]:
        """Says in what the settings differ from those that the folder was begun with, if it was.

        Raises:
            DataError: if it can be no such folder.
        """
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"'{self.path}' is a file, where a folder is needed")
        return self.work.changes()

    def take(self, overwrite: bool = False) -> None:
        """Begins the folder, or goes on with it.

        Args:
            overwrite: delete what other settings have left there, rather than refuse.

        Raises:
            DataError: if the folder was begun with other settings.
        """
        inside(self.path, self.shards.name).mkdir(parents=True, exist_ok=True)
        with folder_lock(self.path):
            remove_leftovers(self.path)
            conflicts = self.conflicts()
            if conflicts and not overwrite:
                raise DataError(f"'{self.path}' holds {self.holds} of other settings: {'; '.join(conflicts)}")
            if conflicts:
                self._clear()
            if conflicts or not self.begun_path.is_file():
                self.work.begin()

    def _clear(self) -> None:
        self.manifest_path.unlink(missing_ok=True)
        for path in self._files():
            path.unlink()
        remove_leftovers(self.shards)

    def _files(self) -> list[Path]:
        return list(self.shards.glob("shard-*"))

    def manifest(self) -> dict[str, Any] | None:
        """Returns the manifest, or None before the end.

        Raises:
            ShardError: if it is of other settings than the folder was begun with.
        """
        manifest = self.work.finished()
        if manifest and (changes := differences(manifest["settings"], self.settings)):
            raise ShardError(f"'{self.manifest_path}' is of other settings: {'; '.join(changes)}; delete it")
        return manifest

    def close(self, shards: int) -> dict[str, Any] | None:
        """Writes the manifest if all shards are there, and returns it; None if other processes still make some.

        Args:
            shards: how many there are to be.

        Raises:
            ShardError: if one is not of these settings, or not in its place.
        """
        if not all(self.shard(index).is_file() for index in range(shards)):
            return None
        with folder_lock(self.path):
            if not self.manifest():
                remove_leftovers(self.shards)
                self.work.finish({**self.described(shards), "versions": used_versions()})
        return self.manifest()

    def described(self, shards: int) -> dict[str, Any]:
        """Returns what the manifest says of the shards; `shards` lists their files, each with `name` and `sha256`.

        Raises:
            ShardError: if one is not of these settings, or not in its place.
        """
        raise NotImplementedError

    def verify(self) -> None:
        """Compares all shards with the manifest's checksums.

        Raises:
            ShardError: if a shard is not the file that the manifest describes, or if there is no manifest yet.
        """
        manifest = self.manifest()
        if manifest is None:
            raise ShardError(f"'{self.path}' has no manifest.json: not all of its shards are there yet.")
        listed, there = ({entry["name"] for entry in manifest["shards"]}, {path.name for path in self._files()})
        if unlisted := sorted(there - listed):
            raise ShardError(f"'{self.shards / unlisted[0]}' is not among the files that manifest.json describes.")
        for entry in manifest["shards"]:
            path = inside(self.shards, entry["name"])
            if not path.is_file() or sha256_of(path) != entry["sha256"]:
                raise ShardError(f"'{path}' is not the file that manifest.json describes; delete both and run again.")
