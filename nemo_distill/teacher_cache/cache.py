"""A finished teacher cache, opened for training: memory-mapped, so that processes share what they read of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nemo_distill.core.folder_safety import inside, open_array
from nemo_distill.data.output_files import sha256_of
from nemo_distill.data.records import read_json
from nemo_distill.data.shard_folder import ShardError
from nemo_distill.data.text_lines import DataError, user_path
from nemo_distill.teacher_cache.folder import (
    INDEX_FILES,
    KEYS_FILE,
    PLACE,
    PLACES_FILE,
    TEACHER_FILE,
    CacheManifest,
    shard_files,
)
from nemo_distill.teacher_cache.keys import KEY
from nemo_distill.teacher_cache.records import is_token_type


class MissingPairError(DataError):
    """A pair that is not in the cache; `row` is its place in the batch."""

    def __init__(self, path: Path, row: int):
        super().__init__(f"'{path}' does not hold the pair in row {row} of a batch.")
        self.path, self.row = path, row


def read_manifest(path: str | Path) -> CacheManifest:
    """Returns the manifest of a finished cache.

    Raises:
        DataError: if the folder is no finished cache.
    """
    folder = user_path(path)
    manifest = read_json(folder / "manifest.json", CacheManifest)
    if manifest is None:
        raise DataError(f"'{folder}' holds no finished teacher cache; cache_teacher.py makes one")
    shards = [path.name for path in shard_files(folder / "shards", len(manifest["shards"]) // 2)]
    listed = [[entry["name"] for entry in manifest[key]] for key in ("index", "shards")]
    if not shards or listed != [list(INDEX_FILES), shards]:
        raise DataError(f"'{folder / 'manifest.json'}' does not list the files of a teacher cache")
    return manifest


def cached_teacher_path(path: str | Path) -> Path:
    """Returns where a cache keeps its teacher's config and tokenizers, as a `.nemo` without weights."""
    return user_path(path) / TEACHER_FILE


class TeacherCache:
    """The records of a cache's tokens, by the keys of their pairs.

    Args:
        path: the folder.

    Raises:
        DataError: if it is no finished cache, or not the one that its manifest describes. The shards' checksums are
            not compared, which would mean to read all of them; `cache_teacher.py` on a finished cache does that.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        self.manifest = read_manifest(self.path)
        for entry in self.manifest["index"]:
            path = inside(self.path, entry["name"])
            if not path.is_file() or sha256_of(path) != entry["sha256"]:
                raise ShardError(f"'{path}' is not the file that manifest.json describes.")
        self._keys, self._places = (self._map(self.path / name) for name in (KEYS_FILE, PLACES_FILE))
        shards = [
            self._map(path) for path in shard_files(self.path / "shards", len(self.manifest["shards"]) // 2)[1::2]
        ]
        self._layout = shards[0].dtype
        # As bytes, which are copied without a look at their fields.
        self._tokens = [shard.view(np.uint8).reshape(len(shard), self._layout.itemsize) for shard in shards]
        self._check_layouts(shards)
        self._check_places()

    def _map(self, path: Path) -> np.ndarray:
        try:
            return open_array(inside(self.path, path.relative_to(self.path).as_posix()))
        except DataError as error:
            raise ShardError(f"'{path}' is not the file that manifest.json describes: {error}") from error

    def _check_layouts(self, shards: Sequence[np.ndarray]) -> None:
        made_with = self.manifest["settings"]
        alike = all(shard.dtype == self._layout for shard in shards)
        if not alike or not is_token_type(self._layout, made_with["k"], made_with["dtype"]):
            raise ShardError(f"'{self.path / 'shards'}' holds other records than manifest.json describes.")
        if (self._keys.dtype, self._places.dtype) != (KEY, PLACE) or len(self._keys) != len(self._places):
            raise ShardError(f"'{self.path / KEYS_FILE}' and '{PLACES_FILE}' are no index.")

    def _check_places(self) -> None:
        """That the index leads nowhere but into the shards."""
        sizes = np.array([len(shard) for shard in self._tokens], np.uint64)
        places = self._places
        right = places["shard"] < len(sizes)
        right &= places["tokens"] <= sizes[places["shard"] * right]
        right &= places["start"] <= sizes[places["shard"] * right] - places["tokens"] * right
        if not right.all():
            raise ShardError(f"'{self.path / PLACES_FILE}' names tokens that no shard holds.")

    def records(self, keys: np.ndarray) -> np.ndarray:
        """Returns the records (N,) of all tokens of pairs, in the pairs' order; `token_type` says what they hold.

        Args:
            keys: the pairs' (B,), see `pair_keys`.

        Raises:
            MissingPairError: if a pair is not there.
        """
        places = self._places[self._find(keys)]
        spans = zip(places["shard"].tolist(), places["start"].tolist(), places["tokens"].tolist())
        tokens = np.concatenate([self._tokens[shard][start : start + count] for shard, start, count in spans])
        return tokens.view(self._layout)[:, 0]

    def _find(self, keys: np.ndarray) -> np.ndarray:
        found = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        if (missing := self._keys[found] != keys).any():
            raise MissingPairError(self.path, int(missing.argmax()))
        return found
