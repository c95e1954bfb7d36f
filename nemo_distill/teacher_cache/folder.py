"""The files in a teacher cache.

- `shards/shard-000000.pairs.npy`: the key and number of tokens of each pair
- `shards/shard-000000.tokens.npy`: one record per token; see `records`
- `index.keys.npy`: all keys, sorted
- `index.places.npy`: for each key, where its tokens are
- `teacher.nemo`: the teacher's config and tokenizers, without weights
- `repeated.npy`: the numbers of repeated pairs, deleted when the cache is finished
- `manifest.json`: written last
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NotRequired

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.nemo_files.translation_archive import teacher_archive
from nemo_distill.storage.files import folder_lock, whole_file
from nemo_distill.storage.folder_safety import open_array
from nemo_distill.storage.ledger import fingerprint, sha256_of
from nemo_distill.storage.records import OPEN, FileEntry
from nemo_distill.storage.shard_folder import ShardError, ShardFolder
from nemo_distill.storage.sorted_on_disk import SortedOnDisk
from nemo_distill.teacher_cache.records import KEY, PAIR
from nemo_distill.teacher_cache.settings import Dtype

PLACE = np.dtype([("shard", "<u4"), ("tokens", "<u4"), ("start", "<u8")])
ENTRY = np.dtype([("key", KEY), ("place", PLACE)])
INDEX_FILES = KEYS_FILE, PLACES_FILE, TEACHER_FILE = "index.keys.npy", "index.places.npy", "teacher.nemo"
REPEATED_FILE = "repeated.npy"


@with_config(OPEN)
class CacheSource(TypedDict):
    """The settings that readers of a cache need."""

    teacher: FileEntry
    k: int | None
    dtype: Dtype
    precision: NotRequired[str]
    data: NotRequired[list[FileEntry]]
    languages: NotRequired[list[str | None]]
    student_tokenizers: NotRequired[dict[str, str]]


@with_config(OPEN)
class CacheManifest(TypedDict):
    """The content of a cache's manifest."""

    settings: CacheSource
    pairs: int
    tokens: int
    bytes_per_token: int
    index: list[FileEntry]
    shards: list[FileEntry]


class CacheFolder(ShardFolder):
    """The folder of a cache during the build.

    Args:
        path: the folder, created by `take`.
        settings: everything that the records depend on, as JSON values.
        teacher: the teacher's `.nemo` or folder.
    """

    holds = "a teacher cache"
    own_files = (*ShardFolder.own_files, *INDEX_FILES, REPEATED_FILE)
    manifest_shape = CacheManifest

    def __init__(self, path: Path, settings: Mapping[str, Any], teacher: Path):
        super().__init__(path, settings)
        self.teacher = teacher

    def shard(self, index: int) -> Path:
        return tokens_path(self.shards, index)

    def has(self, index: int) -> bool:
        return super().has(index) and _pairs_path(self.shards, index).is_file()

    def write(self, index: int, pairs: np.ndarray, tokens: np.ndarray) -> None:
        """Writes a shard. Its tokens file is written last and marks the shard as complete."""
        with self.held():
            for path, records in ((_pairs_path(self.shards, index), pairs), (self.shard(index), tokens)):
                _write_array(path, records)

    def repeated(self, find: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the numbers of repeated pairs. Only one process calls `find`, once."""
        path = self.path / REPEATED_FILE
        with folder_lock(self.path):
            if not path.is_file():
                _write_array(path, find())
        return np.load(path, mmap_mode="r")

    def _clear(self) -> None:
        super()._clear()
        (self.path / REPEATED_FILE).unlink(missing_ok=True)

    def described(self, shards: int) -> dict[str, Any]:
        """Also writes the index, and the teacher's config and tokenizers."""
        pairs, tokens = self._write_index(shards)
        with whole_file(self.path / TEACHER_FILE) as stream:
            teacher_archive(self.teacher).copy_without_weights(stream)
        (self.path / REPEATED_FILE).unlink(missing_ok=True)
        layout = open_array(self.shard(0)).dtype
        return {
            "pairs": pairs,
            "tokens": tokens,
            "bytes_per_token": layout.itemsize,
            "index": [fingerprint(self.path / name) for name in INDEX_FILES],
            "shards": [{"name": path.name, "sha256": sha256_of(path)} for path in shard_files(self.shards, shards)],
        }

    def _write_index(self, shards: int) -> tuple[int, int]:
        """Writes the sorted keys and their places. Returns the numbers of pairs and tokens."""
        pairs = tokens = 0
        with SortedOnDisk(ENTRY, self.path) as entries:
            for index in range(shards):
                shard_pairs = self._checked_pairs(index)
                entries.add(_entries(index, shard_pairs))
                pairs, tokens = pairs + len(shard_pairs), tokens + int(shard_pairs["tokens"].sum())
            with whole_file(self.path / KEYS_FILE) as keys, whole_file(self.path / PLACES_FILE) as places:
                for stream, field in ((keys, "key"), (places, "place")):
                    header = {"shape": (pairs,), "fortran_order": False, "descr": dtype_to_descr(ENTRY[field])}
                    write_array_header_1_0(stream, header)
                for part in entries.parts():
                    keys.write(part["key"].tobytes())
                    places.write(part["place"].tobytes())
        return pairs, tokens

    def _checked_pairs(self, index: int) -> np.ndarray:
        pairs, tokens = open_array(_pairs_path(self.shards, index)), open_array(self.shard(index))
        if pairs.dtype != PAIR or pairs["tokens"].sum() != len(tokens):
            raise ShardError(f"'{self.shard(index)}' does not match its pairs; delete it and run again.")
        return pairs


def shard_files(shards: Path, count: int) -> list[Path]:
    """Returns the files of `count` shards: pairs and tokens of each."""
    return [path(shards, index) for index in range(count) for path in (_pairs_path, tokens_path)]


def tokens_path(shards: Path, index: int) -> Path:
    """Returns the path of a shard's tokens file."""
    return shards / f"shard-{index:06d}.tokens.npy"


def _pairs_path(shards: Path, index: int) -> Path:
    return shards / f"shard-{index:06d}.pairs.npy"


def _write_array(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as stream:
        # Not passed as a file, because numpy then writes directly and its errors hide the reason.
        np.save(SimpleNamespace(write=stream.write), array, allow_pickle=False)


def _entries(shard: int, pairs: np.ndarray) -> np.ndarray:
    entries = np.empty(len(pairs), ENTRY)
    entries["key"] = pairs["key"]
    entries["place"]["shard"], entries["place"]["tokens"] = shard, pairs["tokens"]
    entries["place"]["start"] = np.cumsum(pairs["tokens"], dtype=np.uint64) - pairs["tokens"]
    return entries
