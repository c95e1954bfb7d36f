"""The folder of a generation: what it is made with, its shards, and the manifest that closes it.

`settings.json` is written first, and says what every shard is made with; `shards/` holds them; `manifest.json` is
written last, with the settings, what was counted, checksums and versions.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nemo_distill
from nemo_distill.data.output_files import (
    differences,
    folder_lock,
    read_json,
    remove_leftovers,
    sha256_of,
    versions,
    write_json,
)
from nemo_distill.data.text_lines import DataError
from nemo_distill.pseudo_labels.shards import COUNTS, Header, ShardError, ordered_shards, read_header, shard_path

PACKAGES = ("torch", "nemo_toolkit", "ctranslate2", "sentencepiece", "sacrebleu")


def used_versions() -> dict[str, str]:
    """Returns the versions that labels may depend on."""
    own = {"python": sys.version.split()[0], "nemo_distill": nemo_distill.__version__}
    return own | versions(PACKAGES)


class LabelFolder:
    """Where a generation with certain settings is written.

    Args:
        path: the folder; made when it is taken.
        settings: everything that the labels depend on, as JSON has it.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]):
        self.path = path
        self.settings = json.loads(json.dumps(settings))
        self.digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
        self.shards = path / "shards"
        self.settings_path = path / "settings.json"
        self.manifest_path = path / "manifest.json"

    def shard(self, index: int) -> Path:
        """Returns where the shard of this number belongs."""
        return shard_path(self.shards, index)

    def conflicts(self) -> list[str]:
        """Says in what the settings differ from those that the folder was begun with, if it was."""
        begun = read_json(self.settings_path)
        return differences(begun, self.settings) if begun is not None else []

    def take(self, overwrite: bool = False) -> None:
        """Begins the folder, or goes on with it.

        Args:
            overwrite: delete what other settings have left there, rather than refuse.

        Raises:
            DataError: if the folder was begun with other settings.
        """
        self.shards.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.path):
            remove_leftovers(self.path)
            conflicts = self.conflicts()
            if conflicts and not overwrite:
                raise DataError(f"'{self.path}' holds labels of other settings: {'; '.join(conflicts)}")
            if conflicts:
                self._clear()
            if conflicts or not self.settings_path.is_file():
                write_json(self.settings_path, self.settings)

    def _clear(self) -> None:
        self.manifest_path.unlink(missing_ok=True)
        for path in self.shards.glob("shard-*.jsonl.gz"):
            path.unlink()
        remove_leftovers(self.shards)

    def manifest(self) -> dict[str, Any] | None:
        """Returns the manifest, or None before the end."""
        return read_json(self.manifest_path)

    def finish(self, sources: Sequence[Path], shards: int) -> dict[str, Any] | None:
        """Writes the manifest if all shards are there, and returns it; None if other processes still make some.

        Args:
            sources: the files whose lines the shards translate.
            shards: how many there are to be.

        Raises:
            ShardError: if one is not of these settings, or not in its place.
        """
        if not all(self.shard(index).is_file() for index in range(shards)):
            return None
        with folder_lock(self.path):
            if not self.manifest():
                remove_leftovers(self.shards)
                write_json(self.manifest_path, self._new_manifest(sources, shards))
        return self.manifest()

    def _new_manifest(self, sources: Sequence[Path], shards: int) -> dict[str, Any]:
        counts, entries = Counter(), []
        for path, header in self._checked_headers(shards):
            counts.update(header.counts)
            entries.append({"name": path.name, "lines": header.lines, "sha256": sha256_of(path)})
        read = [entry | {"sha256": sha256_of(path)} for entry, path in zip(self.settings["sources"], sources)]
        return {
            "settings": self.settings,
            "lines": sum(entry["lines"] for entry in entries),
            "counts": {key: counts[key] for key in COUNTS if counts[key]},
            "sources": read,
            "versions": used_versions(),
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

    def verify(self) -> None:
        """Compares all shards with the manifest's checksums.

        Raises:
            ShardError: if a shard is not the file that the manifest describes, or if there is no manifest yet.
        """
        manifest = self.manifest()
        if manifest is None:
            raise ShardError(f"'{self.path}' has no manifest.json: not all of its shards are there yet.")
        for entry in manifest["shards"]:
            path = self.shards / entry["name"]
            if not path.is_file() or sha256_of(path) != entry["sha256"]:
                raise ShardError(f"'{path}' is not the file that manifest.json describes; delete both and run again.")
