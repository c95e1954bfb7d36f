"""Tokenizers that give the same ids as in NeMo, without importing NeMo."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.tokenizer_files import MissingPackageError, import_youtokentome

YTTM_SPECIAL = ("<PAD>", "<UNK>", "<BOS>", "<EOS>")


class Tokenizer(Protocol):
    """Converts text to ids and back, without special ids at the ends."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text. Special ids are dropped, except sentencepiece's unknown id."""


class SentencePiece:
    """A SentencePiece tokenizer.

    Args:
        path: the model file.
    """

    def __init__(self, path: Path):
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._model.encode(list(texts))

    def decode(self, ids: Sequence[int]) -> str:
        return self._model.decode(list(ids))


class YouTokenToMe:
    """A youtokentome tokenizer without dropout. NeMo applies the training's `bpe_dropout` even in translation."""

    def __init__(self, path: Path):
        self._model = import_youtokentome(path).BPE(model=str(path))
        self._special = {self._model.subword_to_id(token) for token in YTTM_SPECIAL}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._model.encode(list(texts)) if texts else []

    def decode(self, ids: Sequence[int]) -> str:
        return self._model.decode([[index for index in ids if index not in self._special]])[0]


LIBRARIES: dict[str, Callable[[Path], Tokenizer]] = {"sentencepiece": SentencePiece, "yttm": YouTokenToMe}


def load_tokenizer(path: Path, library: str) -> Tokenizer:
    """Loads a tokenizer of `sentencepiece` or `yttm`.

    Raises:
        ConfigurationError: if the file is none, or the library is not installed.
    """
    try:
        return LIBRARIES[library](path)
    except MissingPackageError as error:
        raise ConfigurationError([f"{error}."]) from error
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError([f"'{path}' is not a {library} tokenizer: {error}."]) from error
