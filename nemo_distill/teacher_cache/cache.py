"""A finished teacher cache, opened for training: memory-mapped, so that processes share what they read of it."""

from pathlib import Path
from typing import Any

import numpy as np

from nemo_distill.data.output_files import read_json, sha256_of
from nemo_distill.data.shard_folder import ShardError
from nemo_distill.data.text_lines import DataError, user_path
from nemo_distill.teacher_cache.folder import KEYS_FILE, PLACES_FILE, TEACHER_FILE, tokens_path


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
    folder = user_path(path)
    manifest = read_json(folder / "manifest.json")
    if not manifest or "bytes_per_token" not in manifest:
        raise DataError(f"'{folder}' holds no finished teacher cache; cache_teacher.py makes one")
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
            if sha256_of(self.path / entry["name"]) != entry["sha256"]:
                raise ShardError(f"'{self.path / entry['name']}' is not the file that manifest.json describes.")
        self._keys, self._places = (np.load(self.path / name, mmap_mode="r") for name in (KEYS_FILE, PLACES_FILE))
        shards = [self._map(tokens_path(self.path / "shards", i)) for i in range(len(self.manifest["shards"]) // 2)]
        self._layout = shards[0].dtype
        # As bytes, which are copied without a look at their fields.
        self._tokens = [shard.view(np.uint8).reshape(len(shard), -1) for shard in shards]

    def _map(self, path: Path) -> np.ndarray:
        try:
            return np.asarray(np.load(path, mmap_mode="r"))
        except (OSError, ValueError) as error:
            raise ShardError(f"'{path}' is not the file that manifest.json describes: {error}") from error

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
