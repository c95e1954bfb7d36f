"""Tokenizers that give the same ids as in NeMo, without importing NeMo, and the ids of many sentences."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import sentencepiece

from nemo_distill.config.errors import ConfigurationError

YTTM_SPECIAL = ("<PAD>", "<UNK>", "<BOS>", "<EOS>")


@dataclass(frozen=True)
class IdRows:
    """The token ids of many sentences in one array.

    Args:
        ids: the ids of all sentences, one after the other.
        lengths: (N,), the length of each sentence.
    """

    ids: np.ndarray
    lengths: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["IdRows"]) -> "IdRows":
        """Returns the sentences of several objects, in order."""
        return cls(np.concatenate([part.ids for part in parts]), np.concatenate([part.lengths for part in parts]))

    def where(self, kept: np.ndarray) -> "IdRows":
        """Returns the sentences that a mask (N,) selects."""
        return self if kept.all() else IdRows(self.ids[np.repeat(kept, self.lengths)], self.lengths[kept])

    @cached_property
    def starts(self) -> np.ndarray:
        """(N,), the position of each sentence in `ids`."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    def padded(self, rows: Sequence[int], pad_id: int) -> np.ndarray:
        """Returns the ids (B, T) of some sentences, with `pad_id` at the ends of the shorter ones."""
        lengths = self.lengths[rows]
        block = np.full((len(rows), lengths.max()), pad_id, self.ids.dtype)  # (B, T)
        pieces = [self.ids[start : start + length] for start, length in zip(self.starts[rows], lengths)]
        block[np.arange(block.shape[1]) < lengths[:, None]] = np.concatenate(pieces)
        return block


class TokenIds(Protocol):
    """Turns text into ids, and knows the special ones."""

    pad_id: int
    bos_id: int
    eos_id: int
    threads_help: bool
    """Whether several threads can encode at the same time."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, without special ids at the ends."""


class SentencePiece:
    """A SentencePiece tokenizer, which gives the ids of NeMo's `SentencePieceTokenizer`."""

    threads_help = True  # it releases Python's lock while it works

    def __init__(self, path: Path):
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.pad_id, self.bos_id, self.eos_id = self._model.pad_id(), self._model.bos_id(), self._model.eos_id()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._model.encode(list(texts), num_threads=1)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text. Special ids are dropped, except the unknown id."""
        return self._model.decode(list(ids))


class YouTokenToMe:
    """A youtokentome tokenizer without dropout, which gives the ids of NeMo's `YouTokenToMeTokenizer`.

    NeMo itself applies the training's `bpe_dropout` even in translation.

    Args:
        r2l: from right to left.
    """

    threads_help = False

    def __init__(self, path: Path, r2l: bool = False):
        self._model, self._r2l = import_youtokentome(path).BPE(model=str(path)), r2l
        special = {name: self._model.subword_to_id(name) for name in YTTM_SPECIAL}
        self.pad_id, self.bos_id, self.eos_id = (special[name] for name in ("<PAD>", "<BOS>", "<EOS>"))
        self._special = set(special.values())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._model.encode(list(texts), reverse=self._r2l) if texts else []

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids from left to right. Special ids are dropped."""
        return self._model.decode([[index for index in ids if index not in self._special]])[0]


class MissingPackageError(ValueError):
    """A tokenizer needs the optional package youtokentome; the sentence names its file and how to install it."""

    def __init__(self, path: str | Path):
        super().__init__(
            f"'{path}' needs youtokentome, which is not installed: pip install 'Cython<3.1' setuptools wheel, then "
            "pip install --no-build-isolation youtokentome"
        )


def import_youtokentome(path: str | Path) -> Any:
    """Imports the optional package that reads the tokenizer in the file `path`.

    Raises:
        MissingPackageError: if it is not installed.
    """
    try:
        import youtokentome
    except ImportError as error:
        raise MissingPackageError(path) from error
    return youtokentome


def load_tokenizer(path: Path, library: str, r2l: bool = False) -> SentencePiece | YouTokenToMe:
    """Loads a tokenizer of `sentencepiece` or `yttm`.

    Raises:
        ConfigurationError: if the file is none, or the library is not installed.
    """
    try:
        return YouTokenToMe(path, r2l) if library == "yttm" else SentencePiece(path)
    except MissingPackageError as error:
        raise ConfigurationError([f"{error}."]) from error
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError([f"'{path}' is not a {library} tokenizer: {error}."]) from error


def id_rows(tokenizer: TokenIds, texts: Sequence[str]) -> IdRows:
    """Returns the ids of texts, each with the ids of its beginning and its end."""
    rows = tokenizer.encode(texts)
    lengths = np.fromiter(map(len, rows), np.int32, len(rows)) + 2
    ends = np.cumsum(lengths, dtype=np.int64)
    ids = np.empty(ends[-1] if len(ends) else 0, np.int32)
    inner = np.ones(len(ids), bool)
    inner[ends - 1] = inner[ends - lengths] = False
    ids[ends - lengths], ids[ends - 1] = tokenizer.bos_id, tokenizer.eos_id
    ids[inner] = np.fromiter(itertools.chain.from_iterable(rows), np.int32, int(inner.sum()))
    return IdRows(ids, lengths)
