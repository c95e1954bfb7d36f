"""A folder that a long job fills shard by shard.

`settings.json` is written first and contains the settings of all shards, and checksums of their input. `shards/`
contains the shards. `manifest.json` is written last and contains the settings, counts, checksums and versions.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import folder_lock, remove_leftovers
from nemo_distill.storage.folder_safety import path_inside
from nemo_distill.storage.ledger import Described, Work, differences, sha256_of
from nemo_distill.storage.made_with import used_versions
from nemo_distill.storage.records import OPEN, FileEntry, read_json

BEGUN, MANIFEST = "settings.json", "manifest.json"


class ShardError(DataError):
    """Shards that are damaged, missing or out of order. The message names the file."""


def begun_settings(folder: Path) -> dict[str, Any]:
    """Returns the settings with which a folder was begun; none if it was not.

    Raises:
        DataError: if another program has written the record, or if it is damaged.
    """
    return (read_json(folder / BEGUN, Described) or {}).get("settings") or {}


@with_config(OPEN)
class ShardManifest(TypedDict):
    """The content that all manifests have in common."""

    settings: dict[str, Any]
    shards: list[FileEntry]


class ShardFolder:
    """The folder of the shards of a job.

    Args:
        path: the folder, created by `take`.
        settings: everything that the shards depend on, as JSON values.
        read_inputs: returns the SHA-256 of input files that the settings do not contain.
    """

    holds = "shards"  # name of the content, for messages
    own_files: tuple[str, ...] = (BEGUN, MANIFEST)  # beside the shards; other jobs may write others
    manifest_shape: type = ShardManifest

    def __init__(self, path: Path, settings: Mapping[str, Any], read_inputs: Callable[[], Mapping[str, str]] = dict):
        self.path = path
        self.shards = path / "shards"
        self.begun_path = path / BEGUN
        self.work = Work(path / MANIFEST, settings, self.begun_path, self.manifest_shape, read_inputs)
        self.settings, self.digest = self.work.settings, self.work.digest
        self.manifest_path = self.work.finished_path

    def shard(self, index: int) -> Path:
        """Returns the path of a shard. If a shard has several files, this is the one that is written last."""
        raise NotImplementedError

    def lacks(self, index: int, rank: int, world_size: int) -> bool:
        """True if process `rank` of `world_size` must make this shard and it does not exist yet."""
        return index % world_size == rank and not self.has(index)

    def has(self, index: int) -> bool:
        """True if a shard is there, with all of its files."""
        return self.shard(index).is_file()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within this context, no other process writes into the folder.

        Raises:
            DataError: if another job has begun the folder anew, with other settings, since this one began.
        """
        with folder_lock(self.path):
            if changes := self.work.changes():
                raise DataError(f"another job has begun '{self.path}' anew meanwhile: {'; '.join(changes)}")
            yield

    def conflicts(self) -> list[str]:
        """Returns how settings and inputs differ from those that the folder was started with, if any.

        Raises:
            DataError: if the path is a file, or if another program's files are where this folder's would be.
        """
        if self.path.exists() and not self.path.is_dir():
            raise DataError(f"'{self.path}' is a file, but must be a folder")
        if not (self.begun_path.exists() or self.manifest_path.exists()):
            for file in (self.path / name for name in self.own_files):
                if file.exists():
                    raise DataError(
                        f"'{file}' is no part of {self.holds}, which would replace it; give another folder"
                    )
        return self.work.changes()

    def take(self, overwrite: bool = False) -> None:
        """Starts the folder, or continues it.

        Args:
            overwrite: delete results with other settings instead of raising an error.

        Raises:
            DataError: if the folder was started with other settings.
        """
        path_inside(self.path, self.shards.name).mkdir(parents=True, exist_ok=True)
        with folder_lock(self.path):
            remove_leftovers(self.path, *self.own_files)
            conflicts = self.conflicts()
            if conflicts and not overwrite:
                raise DataError(f"'{self.path}' holds {self.holds} with other settings: {'; '.join(conflicts)}")
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
        """Returns the manifest, or None if the folder is not finished.

        Raises:
            ShardError: if its settings differ from those that the folder was started with.
        """
        manifest = self.work.finished()
        if manifest and (changes := differences(manifest["settings"], self.settings)):
            raise ShardError(f"'{self.manifest_path}' has other settings: {'; '.join(changes)}; delete it")
        return manifest

    def close(self, shards: int) -> dict[str, Any] | None:
        """Writes the manifest if all shards exist, and returns it; None if other processes are still working.

        Raises:
            ShardError: if a shard has different settings or is out of order.
            DataError: if another job has begun the folder anew.
        """
        if not all(map(self.has, range(shards))):
            return None
        with self.held():
            if not self.manifest():
                remove_leftovers(self.shards)
                self.work.finish({**self.described(shards), "versions": used_versions()})
        return self.manifest()

    def described(self, shards: int) -> dict[str, Any]:
        """Returns the description of the shards for the manifest. `shards` lists files with `name` and `sha256`.

        Raises:
            ShardError: if a shard has different settings or is out of order.
        """
        raise NotImplementedError

    def verify(self) -> None:
        """Compares all shards with the checksums in the manifest.

        Raises:
            ShardError: if a shard does not match, or if there is no manifest yet.
        """
        manifest = self.manifest()
        if manifest is None:
            raise ShardError(f"'{self.path}' has no manifest.json, because not all of its shards are finished.")
        listed, there = ({entry["name"] for entry in manifest["shards"]}, {path.name for path in self._files()})
        if unlisted := sorted(there - listed):
            raise ShardError(f"'{self.shards / unlisted[0]}' is not listed in manifest.json.")
        for entry in manifest["shards"]:
            path = path_inside(self.shards, entry["name"])
            if not path.is_file() or sha256_of(path) != entry["sha256"]:
                raise ShardError(f"'{path}' does not match its checksum in manifest.json; delete both and run again.")
