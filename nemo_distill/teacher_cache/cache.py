"""A finished teacher cache, opened for training: memory-mapped, so that processes share what they read of it."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nemo_distill.data.output_files import read_json, sha256_of
from nemo_distill.data.shard_folder import ShardError
from nemo_distill.data.text_lines import DataError
from nemo_distill.teacher_cache.folder import KEYS_FILE, PLACES_FILE, TEACHER_FILE, tokens_path

MAPPED = 256  # shards at a time


class MissingPairError(DataError):
    """A pair that is not in the cache; `row` is its place in the batch."""

    def __init__(self, path: Path, row: int):
        super().__init__(f"'{path}' does not hold the pair in row {row} of a batch.")
        self.path, self.row = path, row


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Returns the manifest of a finished cache.

    Raises:
        DataError: if the folder is no finished cache.
    """
    folder = Path(path).expanduser()
    manifest = read_json(folder / "manifest.json")
    if not manifest or "bytes_per_token" not in manifest:
        raise DataError(f"'{folder}' holds no finished teacher cache; cache_teacher.py makes one")
    return manifest


def cached_teacher_path(path: str | Path) -> Path:
    """Returns where a cache keeps its teacher's config and tokenizers, as a `.nemo` without weights."""
    return Path(path).expanduser() / TEACHER_FILE


class TeacherCache:
    """The records of a cache's tokens, by the keys of their pairs.

    Args:
        path: the folder.

    Raises:
        DataError: if it is no finished cache, or not the one that its manifest describes. The shards' checksums are
            not compared, which would mean to read all of them; `cache_teacher.py` on a finished cache does that.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self.manifest = read_manifest(self.path)
        for entry in self.manifest["index"]:
            if sha256_of(self.path / entry["name"]) != entry["sha256"]:
                raise ShardError(f"'{self.path / entry['name']}' is not the file that manifest.json describes.")
        self._keys, self._places = (np.load(self.path / name, mmap_mode="r") for name in (KEYS_FILE, PLACES_FILE))
        self._map = lru_cache(MAPPED)(self._map_shard)  # a mapped file counts as open, of which there may be 1,024
        for shard in reversed(range(len(self.manifest["shards"]) // 2)):
            self._layout = self._map(shard)[1]

    def _map_shard(self, shard: int) -> tuple[np.ndarray, np.dtype]:
        """Returns the tokens' records as bytes (N, size), which are copied without a look at their fields."""
        path = tokens_path(self.path / "shards", shard)
        try:
            records = np.asarray(np.load(path, mmap_mode="r"))
        except (OSError, ValueError) as error:
            raise ShardError(f"'{path}' is not the file that manifest.json describes: {error}") from error
        return records.view(np.uint8).reshape(len(records), -1), records.dtype

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
