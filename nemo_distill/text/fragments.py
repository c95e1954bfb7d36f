"""Turns parallel text into batches of ids, one fragment of the text after the other.

A fragment's pairs are cleaned, turned into ids, sorted by length and packed into batches. The batches go to two files:
`000000.ids` has the padded ids of all batches, and `000000.json`, written last, says where each one is. So memory
depends on the size of a fragment and not on that of the text, and an interrupted job goes on with the next fragment.
"""

import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from nemo_distill.storage.files import whole_files
from nemo_distill.storage.records import read_json
from nemo_distill.text.batches import BatchSettings, pack
from nemo_distill.text.lines import EMPTY, LinePolicy, TextFiles, chunks, clean_line, map_ahead, parallel_lines
from nemo_distill.text.token_ids import IdRows, TokenIds, id_rows

CHUNK = 5000  # pairs that are encoded at a time
STORED = np.dtype("<i4")
Pair = tuple[str, str]
Batch = tuple[np.ndarray, np.ndarray]  # source ids (B, S) and target ids (B, T)


@dataclass(frozen=True)
class FragmentReader:
    """How the lines of a text become batches.

    Args:
        threads: number of threads that turn text into ids.
    """

    sources: Sequence[Path]
    targets: Sequence[Path]
    policy: LinePolicy
    settings: BatchSettings
    threads: int

    def write(
        self,
        folder: Path,
        load_tokenizers: Callable[[], tuple[TokenIds, TokenIds]],
        on_progress: Callable[[float, int], None],
    ) -> list["Fragment"]:
        """Writes the fragments that are missing in a folder, and returns all of them.

        Args:
            folder: the folder, which must be only for this text and these settings.
            load_tokenizers: loads the tokenizers of source and target, if a fragment is missing.
            on_progress: called with the fraction that is done, and the number of lines since the last call.

        Raises:
            DataError: if files are not parallel.
        """
        total, size = sum(1 for _ in TextFiles(self.sources)), self.settings.lines_per_dataset_fragment
        fragments = [Fragment(folder, number) for number in range(math.ceil(total / size))]
        pairs = (pair for files in zip(self.sources, self.targets) for pair in parallel_lines(*files))
        tokenizers: tuple[TokenIds, TokenIds] | None = None
        for fragment in fragments:
            lines = islice(pairs, size)
            begun = fragment.number * size
            if fragment.index_path.is_file():
                deque(lines, maxlen=0)
                on_progress(min(1.0, (begun + size) / total), 0)
                continue
            tokenizers = tokenizers or load_tokenizers()
            dropped: Counter[str] = Counter()
            encoded = []
            for chunk, count in self._encoded(lines, tokenizers, dropped):
                encoded.append(chunk)
                begun += count
                on_progress(begun / total, count)
            tokens = sum(int(side.lengths.sum()) for chunk in encoded for side in chunk)
            fragment.write(self._batches(encoded, tokenizers), tokens, dropped)
        next(pairs, None)  # raises an error if only the targets go on
        return fragments

    def _encoded(
        self, lines: Iterator[tuple[bytes, bytes]], tokenizers: tuple[TokenIds, TokenIds], dropped: Counter
    ) -> Iterator[tuple[list[IdRows], int]]:
        """Yields the ids of the pairs to use, chunk by chunk, and the number of lines that each chunk had."""
        threads = self.threads if all(tokenizer.threads_help for tokenizer in tokenizers) else 1
        cleaned = ((list(self._cleaned(raw, dropped)), len(raw)) for raw in chunks(lines, CHUNK))
        with ThreadPoolExecutor(threads) as pool:
            for (source, target), count in map_ahead(pool, partial(_ids, tokenizers), cleaned, threads + 1):
                kept = self.settings.keeps(source.lengths, target.lengths, dropped)
                yield [source.where(kept), target.where(kept)], count

    def _cleaned(self, raw: Sequence[tuple[bytes, bytes]], dropped: Counter) -> Iterator[Pair]:
        for pair in raw:
            source, target = (clean_line(line, self.policy) for line in pair)
            oddity = next((line.oddity for line in (source, target) if not line.text), None)
            if oddity is None or (oddity == EMPTY and not self.settings.clean):
                yield source.text, target.text
            else:
                dropped[oddity] += 1

    def _batches(self, encoded: list[list[IdRows]], tokenizers: tuple[TokenIds, TokenIds]) -> Iterator[Batch]:
        sides = [IdRows.joined(parts) for parts in zip(*encoded)]
        encoded.clear()  # to free the memory
        for rows in pack(sides[0].lengths, sides[1].lengths, self.settings.tokens_in_batch):
            source, target = (side.padded(rows, tokenizer.pad_id) for side, tokenizer in zip(sides, tokenizers))
            yield source, target


def _ids(tokenizers: tuple[TokenIds, TokenIds], chunk: tuple[Sequence[Pair], int]) -> tuple[list[IdRows], int]:
    pairs, count = chunk
    return [id_rows(tokenizer, [pair[side] for pair in pairs]) for side, tokenizer in enumerate(tokenizers)], count


@dataclass(frozen=True)
class Fragment:
    """The batches of a fragment, in files.

    Args:
        number: the fragment's number, from 0.
    """

    folder: Path
    number: int

    @property
    def ids_path(self) -> Path:
        return self.folder / f"{self.number:06}.ids"

    @property
    def index_path(self) -> Path:
        return self.folder / f"{self.number:06}.json"

    def write(self, batches: Iterator[Batch], tokens: int, dropped: Counter) -> None:
        """Writes the batches, their number of tokens without padding, and how many pairs were dropped by reason."""
        shapes = []
        with whole_files([self.ids_path, self.index_path]) as (ids_file, index_file):
            for source, target in batches:
                for block in (source, target):
                    ids_file.write(block.astype(STORED).tobytes())
                shapes.append([*source.shape, target.shape[1]])
            index_file.write(json.dumps({"batches": shapes, "tokens": tokens, "dropped": dropped}).encode())

    @cached_property
    def index(self) -> dict[str, Any]:
        """`batches`, a list of [B, S, T]; `tokens`, their number without padding; `dropped`, counts by reason."""
        index = read_json(self.index_path)
        if index is None:
            raise FileNotFoundError(self.index_path)
        return index

    @cached_property
    def shapes(self) -> np.ndarray:
        """(N, 3), the B, S and T of each batch."""
        return np.array(self.index["batches"], np.int64).reshape(-1, 3)

    @cached_property
    def _offsets(self) -> np.ndarray:
        sizes = self.shapes[:, 0] * (self.shapes[:, 1] + self.shapes[:, 2])
        return np.cumsum(sizes) - sizes

    def batch(self, number: int) -> Batch:
        """Returns the source ids (B, S) and the target ids (B, T) of a batch."""
        rows, src_length, tgt_length = map(int, self.shapes[number])
        with self.ids_path.open("rb") as stream:
            stream.seek(int(self._offsets[number]) * STORED.itemsize)
            ids = np.fromfile(stream, STORED, rows * (src_length + tgt_length))
        source, target = ids[: rows * src_length], ids[rows * src_length :]
        return source.reshape(rows, src_length), target.reshape(rows, tgt_length)
