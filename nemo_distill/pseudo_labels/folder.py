"""The output folder of a label generation. The shards are in the order of the source lines."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_distill.pseudo_labels.shards import COUNTS, Header, ordered_shards, read_header, shard_path
from nemo_distill.storage.ledger import sha256_of
from nemo_distill.storage.shard_folder import ShardError, ShardFolder, ShardManifest


class LabelManifest(ShardManifest):
    """The content of a label manifest."""

    lines: int
    counts: dict[str, int]


class LabelFolder(ShardFolder):
    """The folder of a label generation.

    Args:
        path: the folder, created by `take`.
        settings: everything that the labels depend on, as JSON values.
        sources: the files to translate.
    """

    holds = "labels"
    manifest_shape = LabelManifest

    def __init__(self, path: Path, settings: Mapping[str, Any], sources: Sequence[Path]):
        super().__init__(path, settings)
        self.sources = sources

    def shard(self, index: int) -> Path:
        return shard_path(self.shards, index)

    def described(self, shards: int) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        entries = []
        for path, header in self._checked_headers(shards):
            counts.update(header.counts)
            entries.append({"name": path.name, "lines": header.lines, "sha256": sha256_of(path)})
        read = [entry | {"sha256": sha256_of(path)} for entry, path in zip(self.settings["sources"], self.sources)]
        return {
            "lines": sum(entry["lines"] for entry in entries),
            "counts": {key: counts[key] for key in COUNTS if counts[key]},
            "sources": read,
            "shards": entries,
        }

    def _checked_headers(self, shards: int) -> Iterator[tuple[Path, Header]]:
        paths, first_line = ordered_shards(self.shards), 1
        if len(paths) != shards:
            raise ShardError(f"'{self.shards}' holds {len(paths)} shards; the source makes {shards}.")
        for index, path in enumerate(paths):
            header = read_header(path)
            if (header.shard, header.first_line) != (index, first_line):
                raise ShardError(f"'{path}', line 1: does not follow the shard before it.")
            if header.settings != self.digest:
                raise ShardError(f"'{path}', line 1: was made with other settings; delete it and run again.")
            first_line += header.lines
            yield path, header
