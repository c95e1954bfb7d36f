"""Writes training pairs as tarred data, which NeMo's `TarredTranslationDataset` reads batch by batch.

NeMo gives each device the same number of tar files, and reads as many batches from each as the average tar file has.
Therefore all tar files get the same number of batches here, and their number is a multiple of `devices`. To make that
possible, the largest batches are split in two until the number of batches is a multiple of the number of tar files. So
no pair is left out. Batches are in random order, because NeMo shuffles tar files but not the batches in them.

The metadata file is written last. It contains the settings and the fingerprints of text and tokenizers, next to what
NeMo reads.
"""

import heapq
import io
import pickle
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count
from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.config.errors import DataError
from nemo_distill.console import console
from nemo_distill.progress import shown_progress
from nemo_distill.storage.files import folder_lock, remove_leftovers, whole_file
from nemo_distill.storage.ledger import Work, digest_of
from nemo_distill.storage.records import OPEN, read_json
from nemo_distill.text.batches import BatchSettings, dropped_in_words
from nemo_distill.text.fragments import Fragment, FragmentReader
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.selected_by import selected_by
from nemo_distill.text.token_ids import TokenIds
from nemo_distill.text.tokenizer_training import TokenizerFile, TokenizerJob, numbered_fingerprints

FORMAT = 1  # of these files; data of another format is made again
OWN_TAR_FILE = re.compile(r".*\.batches\.tokens\.\d+\.[0-9a-f]{8}\.\d+\.tar")


@dataclass(frozen=True)
class TarredData:
    """Tarred data to write.

    Args:
        tokenizers: what identifies the tokenizer of each side, as JSON values.
        devices: the number of tar files is a multiple of this.
    """

    folder: Path
    sources: Sequence[Path]
    targets: Sequence[Path]
    tokenizers: Mapping[str, Any]
    settings: BatchSettings
    policy: LinePolicy
    devices: int = 1
    prefix: str = "parallel"

    @property
    def metadata(self) -> Path:
        """The metadata file, with NeMo's name for it."""
        return self.folder / f"metadata.tokens.{self.settings.tokens_in_batch}.json"

    @property
    def work(self) -> Work:
        """The record of the data. It does not depend on `devices`: data for others is usable, if not evenly."""
        settings = {
            "format": FORMAT,
            "source": numbered_fingerprints(self.sources),
            "target": numbered_fingerprints(self.targets),
            "tokenizers": self.tokenizers,
            **asdict(self.settings),
            "reading": asdict(self.policy),
        }
        return Work(self.metadata, settings)

    @property
    def name(self) -> str:
        """The beginning of all file names. No other settings or number of devices have the same one."""
        digest = digest_of({**self.work.settings, "devices": self.devices})
        return f"{self.prefix}.batches.tokens.{self.settings.tokens_in_batch}.{digest[:8]}"

    def done(self, overwrite: bool = False) -> dict[str, Any] | None:
        """Returns the metadata if the data is there, otherwise None.

        Args:
            overwrite: return None instead of raising an error.

        Raises:
            DataError: if there is data made from other text or with other settings, or of unknown origin.
        """
        found = self.work.finished()
        if found and "settings" not in found and not overwrite:
            raise DataError(f"'{self.metadata}' has no record of the text that it was made from")
        record = self.work.done(overwrite)
        missing = [name for name in record["tar_files"] if not (self.folder / name).is_file()] if record else []
        if missing and not overwrite:
            raise DataError(f"'{self.metadata}' lists '{missing[0]}', which does not exist")
        return None if missing else record


def write_tarred_data(
    data: TarredData,
    load_tokenizers: Callable[[], tuple[TokenIds, TokenIds]],
    overwrite: bool = False,
    threads: int | None = None,
    shown: bool = True,
) -> dict[str, Any]:
    """Writes the data and returns its metadata. If it is there already, only returns that.

    If an earlier call with the same settings was interrupted, it continues with the next fragment or tar file. The
    result is the same, byte for byte.

    Args:
        load_tokenizers: loads the tokenizers of source and target. Called only if there is work to do.
        overwrite: replace data with other settings, or for another number of devices, instead of raising an error or
            leaving it as it is.
        threads: number of threads that turn text into ids; None: one for each processor.
        shown: show the progress.

    Raises:
        DataError: if there is data with other settings, files are not parallel, or no pair is left.
    """
    data.folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(data.folder):
        if record := data.done(overwrite):
            if (devices := record.get("devices", data.devices)) == data.devices:
                return record
            if not overwrite:
                console.info(f"'{data.metadata}' stays as it was made, for devices={devices} and not {data.devices}.")
                return record
        unfinished = data.folder / f"{data.name}.unfinished"
        _remove_others(data)
        unfinished.mkdir(exist_ok=True)
        threads = threads or cpu_count()
        reader = FragmentReader(data.sources, data.targets, data.policy, data.settings, threads)
        with shown_progress("tokenizing", 1.0, shown) as on_progress:
            fragments = reader.write(unfinished, load_tokenizers, on_progress)
        with shown_progress("writing tar files", 1.0, shown, "batches") as on_progress:
            result = _write_tar_files(data, fragments, on_progress)
        record = data.work.finish(result)
        shutil.rmtree(unfinished)
        return record


@with_config(OPEN)
class TarredMetadata(TypedDict, total=False):
    """The part of NeMo's metadata for tarred data that is read here."""

    tar_files: list[str] | None


def tar_files(metadata: Path) -> list[Path]:
    """Returns the tar files as NeMo finds them: at the listed path, otherwise next to the metadata."""
    named = [Path(name) for name in (read_json(metadata, TarredMetadata) or {}).get("tar_files") or []]
    return [path if path.exists() else metadata.parent / path.name for path in named]


def earlier_work(
    where: str, files: Sequence[TokenizerFile], data: Callable[[], Sequence[TarredData]], overwrite: str
) -> list[str]:
    """Returns a sentence for each tokenizer or data that is there already and was made from something else.

    Args:
        where: the key of the folder.
        data: returns the data. Called only if the tokenizers are there, on which the data depends.
        overwrite: the key by which they are made again.
    """
    jobs = {file.path: file.job for file in files if file.job}.values()
    found = [_conflict(job) for job in jobs]
    if not any(found) and all(file.path.is_file() for file in files):
        found = [_conflict(one) for one in data()]
    remedy = f"give another folder, or make it again with {overwrite}=true"
    return [f"{where}: {conflict}; {remedy}." for conflict in found if conflict]


def _conflict(work: TokenizerJob | TarredData) -> str | None:
    try:
        work.done()
    except DataError as error:
        return str(error)
    return None


def _remove_others(data: TarredData) -> None:
    """Removes the data that will be replaced, and what interrupted calls with other settings have left."""
    remove_leftovers(data.folder, data.metadata.name, OWN_TAR_FILE)
    listed = [data.folder / Path(name).name for name in (data.work.finished() or {}).get("tar_files") or []]
    data.metadata.unlink(missing_ok=True)
    own = [
        path
        for path in data.folder.glob(f"*.tokens.{data.settings.tokens_in_batch}.*.tar")
        if OWN_TAR_FILE.fullmatch(path.name)
    ]
    for path in {*listed, *own}:
        if not path.name.startswith(f"{data.name}."):
            path.unlink(missing_ok=True)
    for path in data.folder.glob(f"*.batches.tokens.{data.settings.tokens_in_batch}.*.unfinished"):
        if path.name == f"{data.name}.unfinished":
            remove_leftovers(path)
        else:
            shutil.rmtree(path)


def _write_tar_files(
    data: TarredData, fragments: Sequence[Fragment], on_progress: Callable[[float, int], None]
) -> dict[str, Any]:
    """Writes the tar files that are missing, and returns the metadata without the settings."""
    shapes = np.concatenate([fragment.shapes for fragment in fragments]) if fragments else np.empty((0, 3), np.int64)
    dropped = sum((Counter(fragment.index["dropped"]) for fragment in fragments), Counter())
    if not len(shapes):
        raise DataError(f"'{data.sources[0]}' has no pair to train on: {dropped_in_words(dropped) or 'it is empty'}")
    planned, repeated = plan_tar_files(shapes[:, 0], data.settings.num_batches_per_tarfile, data.devices)
    ends = np.cumsum([len(fragment.shapes) for fragment in fragments])
    names = [f"{data.name}.{number}.tar" for number in range(len(planned))]
    for done, (name, pieces) in enumerate(zip(names, planned), start=1):
        there = (data.folder / name).is_file()
        if not there:
            _write_tar_file(data.folder / name, pieces, fragments, ends)
        on_progress(done / len(names), 0 if there else len(pieces))
    tokens = sum(fragment.index["tokens"] for fragment in fragments)
    return {
        "num_batches": sum(map(len, planned)),
        "tar_files": names,  # NeMo looks for them next to this file
        "pairs": int(shapes[:, 0].sum()),
        "dropped": dict(sorted(dropped.items())),
        "tokens": tokens,
        "padding": round(1 - tokens / int((shapes[:, 0] * (shapes[:, 1] + shapes[:, 2])).sum()), 4),
        "devices": data.devices,
        "repeated_batches": repeated,
        "selected_by": selected_by(data.targets),
    }


def plan_tar_files(rows: np.ndarray, per_file: int, devices: int = 1) -> tuple[list[np.ndarray], int]:
    """Divides batches into tar files of the same number of batches.

    Args:
        rows: (N,), the number of pairs in each batch.
        per_file: largest number of batches in a tar file.
        devices: the number of tar files is a multiple of this.

    Returns:
        For each tar file, its batches (N, 3): the number of a packed batch, its first row, and its last row + 1. Then
        how many batches there are twice, because they could not be divided evenly otherwise.
    """
    files = devices * -(-len(rows) // (per_file * devices))
    lacking = -len(rows) % files
    largest = np.argsort(-rows, kind="stable")[:lacking].tolist()
    whole = np.setdiff1d(np.arange(len(rows)), largest)
    pieces = [(-int(rows[batch]), batch, 0) for batch in largest]  # a heap, the largest piece first
    heapq.heapify(pieces)
    while lacking and pieces[0][0] < -1:
        size, batch, first = pieces[0]
        half = -size // 2
        heapq.heapreplace(pieces, (-half, batch, first))
        heapq.heappush(pieces, (size + half, batch, first + half))
        lacking -= 1
    split = np.array([(batch, first, first - size) for size, batch, first in sorted(pieces)], np.int64).reshape(-1, 3)
    table = np.concatenate([np.stack([whole, np.zeros_like(whole), rows[whole]], axis=1), split])
    table = np.concatenate([table, np.resize(table, (lacking, 3))])
    shuffled = table[np.random.Generator(np.random.PCG64(0)).permutation(len(table))]
    return np.split(shuffled, files), lacking


def _write_tar_file(path: Path, pieces: np.ndarray, fragments: Sequence[Fragment], ends: np.ndarray) -> None:
    with whole_file(path) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, (batch, first, last) in enumerate(pieces.tolist()):
            fragment = int(np.searchsorted(ends, batch, side="right"))
            sides = fragments[fragment].batch(batch - int(ends[fragment] - len(fragments[fragment].shapes)))
            content = pickle.dumps(
                {name: ids[first:last].astype(np.int64) for name, ids in zip(("src", "tgt"), sides)}
            )
            member = tarfile.TarInfo(f"batch-{number:06}.pkl")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
