"""The folder of a teacher cache.

`shards/` holds numpy files, each shard `shard-000000.pairs.npy` (the pairs' keys and numbers of tokens) and
`shard-000000.tokens.npy` (a record a token, see `records`). `index.keys.npy` holds all keys in order,
`index.places.npy` for each where its tokens are. `teacher.nemo` is the teacher's without its weights: config and
tokenizers. `manifest.json` closes the folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from nemo_distill.core.folder_safety import open_array
from nemo_distill.core.nemo_archive import NemoArchive
from nemo_distill.data.output_files import fingerprint, sha256_of, whole_file
from nemo_distill.data.records import OPEN, FileEntry
from nemo_distill.data.shard_folder import ShardError, ShardFolder
from nemo_distill.teacher_cache.records import PAIR

PLACE = np.dtype([("shard", "<u4"), ("tokens", "<u4"), ("start", "<u8")])
INDEX_FILES = KEYS_FILE, PLACES_FILE, TEACHER_FILE = "index.keys.npy", "index.places.npy", "teacher.nemo"


class CacheSource(TypedDict):
    """Of what a cache was made with, what whoever opens it reads."""

    __pydantic_config__ = OPEN
    teacher: FileEntry
    k: int | None
    dtype: str
    precision: NotRequired[str]
    data: NotRequired[list[FileEntry]]


class CacheManifest(TypedDict):
    """What the manifest of a cache holds."""

    __pydantic_config__ = OPEN
    settings: CacheSource
    pairs: int
    tokens: int
    bytes_per_token: int
    index: list[FileEntry]
    shards: list[FileEntry]


class CacheFolder(ShardFolder):
    """Where a cache with certain settings is written.

    Args:
        path: the folder; made when it is taken.
        settings: everything that the records depend on, as JSON has it.
        teacher: the `.nemo`.
    """

    holds = "a teacher cache"
    manifest_shape = CacheManifest

    def __init__(self, path: Path, settings: Mapping[str, Any], teacher: Path):
        super().__init__(path, settings)
        self.teacher = teacher

    def shard(self, index: int) -> Path:
        return tokens_path(self.shards, index)

    def write(self, index: int, pairs: np.ndarray, tokens: np.ndarray) -> None:
        """Writes a shard, which is there when its tokens are."""
        for path, records in ((_pairs_path(self.shards, index), pairs), (self.shard(index), tokens)):
            _write_array(path, records)

    def described(self, shards: int) -> dict[str, Any]:
        """Writes the index and the teacher's config and tokenizers, too."""
        pairs = [self._checked_pairs(index) for index in range(shards)]
        keys, places = _index(pairs)
        _write_array(self.path / KEYS_FILE, keys)
        _write_array(self.path / PLACES_FILE, places)
        with whole_file(self.path / TEACHER_FILE) as stream:
            NemoArchive(self.teacher).copy_without_weights(stream)
        layout = open_array(self.shard(0)).dtype
        return {
            "pairs": len(keys),
            "tokens": int(places["tokens"].sum()),
            "bytes_per_token": layout.itemsize,
            "index": [fingerprint(self.path / name) for name in INDEX_FILES],
            "shards": [{"name": path.name, "sha256": sha256_of(path)} for path in shard_files(self.shards, shards)],
        }

    def _checked_pairs(self, index: int) -> np.ndarray:
        pairs, tokens = open_array(_pairs_path(self.shards, index)), open_array(self.shard(index))
        if pairs.dtype != PAIR or pairs["tokens"].sum() != len(tokens):
            raise ShardError(f"'{self.shard(index)}' does not hold the tokens of its pairs; delete it and run again.")
        return pairs


def shard_files(shards: Path, count: int) -> list[Path]:
    """Returns the files of as many shards, of each its pairs and then its tokens."""
    return [path(shards, index) for index in range(count) for path in (_pairs_path, tokens_path)]


def tokens_path(shards: Path, index: int) -> Path:
    """Returns where the tokens of the shard of this number belong."""
    return shards / f"shard-{index:06d}.tokens.npy"


def _pairs_path(shards: Path, index: int) -> Path:
    return shards / f"shard-{index:06d}.pairs.npy"


def _write_array(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as stream:
        np.save(stream, array, allow_pickle=False)


def _index(pairs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all keys in order, and their places."""
    keys = np.concatenate([of_shard["key"] for of_shard in pairs])
    places = np.empty(len(keys), PLACE)
    places["shard"] = np.repeat(np.arange(len(pairs)), [len(of_shard) for of_shard in pairs])
    places["tokens"] = np.concatenate([of_shard["tokens"] for of_shard in pairs])
    places["start"] = np.concatenate([np.cumsum(of_shard["tokens"]) - of_shard["tokens"] for of_shard in pairs])
    order = np.argsort(keys, kind="stable")
    return keys[order], places[order]
