"""Reads a finished teacher cache for training. The files are memory-mapped, so that processes share the memory."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import user_path
from nemo_distill.storage.folder_safety import open_array, path_inside
from nemo_distill.storage.ledger import sha256_of
from nemo_distill.storage.records import read_json
from nemo_distill.storage.shard_folder import ShardError
from nemo_distill.teacher_cache.folder import (
    INDEX_FILES,
    KEYS_FILE,
    PLACE,
    PLACES_FILE,
    TEACHER_FILE,
    CacheManifest,
    shard_files,
    tokens_path,
)
from nemo_distill.teacher_cache.records import KEY, found_keys, is_token_type

MAPPED = 256  # number of shards mapped at a time


class MissingPairError(DataError):
    """Raised if a pair is not in the cache. `row` is its index in the batch."""

    def __init__(self, path: Path, row: int):
        super().__init__(f"'{path}' does not hold the pair in row {row} of a batch.")
        self.path, self.row = path, row


def read_manifest(path: str | Path) -> CacheManifest:
    """Returns the manifest of a finished cache.

    Raises:
        DataError: if the folder is not a finished cache.
    """
    folder = user_path(path)
    manifest = read_json(folder / "manifest.json", CacheManifest)
    if manifest is None:
        raise DataError(f"'{folder}' holds no finished teacher cache; create it with 'nemo-distill cache'")
    shards = [path.name for path in shard_files(folder / "shards", len(manifest["shards"]) // 2)]
    listed = [[entry["name"] for entry in manifest[key]] for key in ("index", "shards")]
    if not shards or listed != [list(INDEX_FILES), shards]:
        raise DataError(f"'{folder / 'manifest.json'}' does not list the files of a teacher cache")
    return manifest


def cached_teacher_path(path: str | Path) -> Path:
    """Returns the path of the teacher's config and tokenizers in the cache, a `.nemo` without weights."""
    return user_path(path) / TEACHER_FILE


class TeacherCache:
    """Looks up the token records of pairs by their keys.

    Args:
        path: the folder.

    Raises:
        DataError: if it is not a finished cache, or does not match its manifest. The checksums of shards are not
            verified, because that would read all data. To verify them, run `nemo-distill cache` on the finished cache.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        self.manifest = read_manifest(self.path)
        for entry in self.manifest["index"]:
            path = path_inside(self.path, entry["name"])
            if not path.is_file() or sha256_of(path) != entry["sha256"]:
                raise ShardError(
                    f"'{path}' does not match its checksum in manifest.json; delete that and run 'nemo-distill cache' "
                    "again."
                )
        self._keys, self._places = (self._open(self.path / name) for name in (KEYS_FILE, PLACES_FILE))
        self._map = lru_cache(MAPPED)(self._map_shard)  # mapped files count as open, and 1,024 is a common limit
        sizes = []
        for shard in reversed(range(len(self.manifest["shards"]) // 2)):
            tokens, layout = self._map(shard)
            self._check_layout(layout)
            sizes.append(len(tokens))
        self._layout = layout
        self._check_places(np.array(sizes[::-1], np.uint64))

    def _open(self, path: Path) -> np.ndarray:
        try:
            return open_array(path_inside(self.path, path.relative_to(self.path).as_posix()))
        except DataError as error:
            raise ShardError(f"'{path}' does not match manifest.json: {error}") from error

    def _map_shard(self, shard: int) -> tuple[np.ndarray, np.dtype]:
        """Returns the token records of a shard as bytes (N, size), which are faster to copy, and their layout."""
        records = self._open(tokens_path(self.path / "shards", shard))
        return records.view(np.uint8).reshape(len(records), records.dtype.itemsize), records.dtype

    def _check_layout(self, layout: np.dtype) -> None:
        made_with = self.manifest["settings"]
        if layout.itemsize != self.manifest["bytes_per_token"] or not is_token_type(
            layout, made_with["k"], made_with["dtype"]
        ):
            raise ShardError(f"'{self.path / 'shards'}' does not have the record layout in manifest.json.")

    def _check_places(self, sizes: np.ndarray) -> None:
        """Checks that the index refers only to tokens in the shards.

        Args:
            sizes: the number of tokens in each shard.
        """
        if (self._keys.dtype, self._places.dtype) != (KEY, PLACE) or len(self._keys) != len(self._places):
            raise ShardError(f"'{self.path / KEYS_FILE}' and '{PLACES_FILE}' are not a valid index.")
        places = self._places
        right = places["shard"] < len(sizes)
        right &= places["tokens"] <= sizes[places["shard"] * right]
        right &= places["start"] <= sizes[places["shard"] * right] - places["tokens"] * right
        if not right.all():
            raise ShardError(f"'{self.path / PLACES_FILE}' refers to tokens that are in no shard.")

    def records(self, keys: np.ndarray) -> np.ndarray:
        """Returns the records (N,) of all tokens of some pairs, in the order of the pairs; see `token_type`.

        Args:
            keys: the keys (B,) of the pairs; see `pair_keys`.

        Raises:
            MissingPairError: if a pair is not in the cache.
        """
        found, held = found_keys(self._keys, keys)
        if not held.all():
            raise MissingPairError(self.path, int(held.argmin()))
        places = self._places[found]
        ends = np.cumsum(places["tokens"]).tolist()
        tokens = np.empty((ends[-1], self._layout.itemsize), np.uint8)
        # Copied pair by pair, because a view into a shard would keep the shard open.
        for shard, start, begin, end in zip(places["shard"].tolist(), places["start"].tolist(), [0, *ends], ends):
            tokens[begin:end] = self._map(shard)[0][start : start + end - begin]
        return tokens.view(self._layout)[:, 0]

    def holds(self, keys: np.ndarray) -> np.ndarray:
        """Returns for each of the keys (B,) whether its pair is in the cache."""
        return found_keys(self._keys, keys)[1]
