"""A finished teacher cache, opened for training: memory-mapped, so that processes share what they read of it."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import user_path
from nemo_distill.storage.folder_safety import inside, open_array
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
from nemo_distill.teacher_cache.keys import KEY
from nemo_distill.teacher_cache.records import is_token_type

MAPPED = 256  # shards at a time


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
        raise DataError(f"'{folder}' holds no finished teacher cache; 'nemo-distill cache' makes one")
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
            not compared, which would mean to read all of them; `nemo-distill cache` on a finished cache does that.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        self.manifest = read_manifest(self.path)
        for entry in self.manifest["index"]:
            path = inside(self.path, entry["name"])
            if not path.is_file() or sha256_of(path) != entry["sha256"]:
                raise ShardError(f"'{path}' is not the file that manifest.json describes.")
        self._keys, self._places = (self._open(self.path / name) for name in (KEYS_FILE, PLACES_FILE))
        self._map = lru_cache(MAPPED)(self._map_shard)  # a mapped file counts as open, of which there may be 1,024
        sizes = []
        for shard in reversed(range(len(self.manifest["shards"]) // 2)):
            tokens, layout = self._map(shard)
            self._check_layout(layout)
            sizes.append(len(tokens))
        self._layout = layout
        self._check_places(np.array(sizes[::-1], np.uint64))

    def _open(self, path: Path) -> np.ndarray:
        try:
            return open_array(inside(self.path, path.relative_to(self.path).as_posix()))
        except DataError as error:
            raise ShardError(f"'{path}' is not the file that manifest.json describes: {error}") from error

    def _map_shard(self, shard: int) -> tuple[np.ndarray, np.dtype]:
        """Returns the tokens' records as bytes (N, size), which are copied without a look at their fields."""
        records = self._open(tokens_path(self.path / "shards", shard))
        return records.view(np.uint8).reshape(len(records), records.dtype.itemsize), records.dtype

    def _check_layout(self, layout: np.dtype) -> None:
        made_with = self.manifest["settings"]
        if layout.itemsize != self.manifest["bytes_per_token"] or not is_token_type(
            layout, made_with["k"], made_with["dtype"]
        ):
            raise ShardError(f"'{self.path / 'shards'}' holds other records than manifest.json describes.")

    def _check_places(self, sizes: np.ndarray) -> None:
        """That the index leads nowhere but into the shards.

        Args:
            sizes: the shards' numbers of tokens.
        """
        if (self._keys.dtype, self._places.dtype) != (KEY, PLACE) or len(self._keys) != len(self._places):
            raise ShardError(f"'{self.path / KEYS_FILE}' and '{PLACES_FILE}' are no index.")
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
        ends = np.cumsum(places["tokens"]).tolist()
        tokens = np.empty((ends[-1], self._layout.itemsize), np.uint8)
        # Copied one by one, since a part of a shard that is kept keeps the shard open.
        for shard, start, begin, end in zip(places["shard"].tolist(), places["start"].tolist(), [0, *ends], ends):
            tokens[begin:end] = self._map(shard)[0][start : start + end - begin]
        return tokens.view(self._layout)[:, 0]

    def _find(self, keys: np.ndarray) -> np.ndarray:
        found = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        if (missing := self._keys[found] != keys).any():
            raise MissingPairError(self.path, int(missing.argmax()))
        return found
