"""Reads tokenizer files without NeMo: their library, pieces and special ids."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nemo_distill.storage.files import missing_content, user_path
from nemo_distill.text.files import is_file
from nemo_distill.text.token_ids import MissingPackageError, import_youtokentome

# youtokentome models are text files that begin with two counts. SentencePiece models are protobufs.
YTTM_FIRST_LINE = re.compile(rb"\d+ \d+\r?\n")
Library = Literal["sentencepiece", "yttm"]
SPECIAL_TOKENS = ("pad", "unk", "bos", "eos")


def tokenizer_library(path: str | Path) -> Library:
    """Returns `yttm` or `sentencepiece`, depending on the content of the file.

    The config of a `.nemo` is not reliable: NeMo 1.x omitted the library if it was its default, yttm. NeMo 2.x assumes
    sentencepiece if it is missing.
    """
    with Path(path).open("rb") as stream:
        return "yttm" if YTTM_FIRST_LINE.match(stream.read(64)) else "sentencepiece"


@dataclass(frozen=True)
class Vocabulary:
    """The pieces of a tokenizer, in the order of their ids, and the ids of its special tokens."""

    library: str
    pieces: tuple[str, ...]
    special_ids: dict[str, int]

    @property
    def has_final_spaces(self) -> bool:
        """True if pieces end with the space after a word, instead of beginning with the one before it."""
        long = [piece for piece in self.pieces if len(piece) > 1]
        return sum(piece.endswith("▁") for piece in long) > sum(piece.startswith("▁") for piece in long)


def read_vocabulary(path: str | Path) -> Vocabulary:
    """Reads the vocabulary of a sentencepiece or youtokentome model.

    Raises:
        MissingPackageError: if it is of youtokentome, which is not installed.
        ValueError: if the file is neither.
    """
    library = tokenizer_library(path)
    try:
        return _read_yttm(path) if library == "yttm" else _read_sentencepiece(path)
    except MissingPackageError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(
            missing_content(Path(path)) or f"'{path}' is not a sentencepiece or youtokentome tokenizer: {error}"
        ) from error


def _read_yttm(path: str | Path) -> Vocabulary:
    model = import_youtokentome(path).BPE(model=str(path))
    special_ids = {name: model.subword_to_id(f"<{name.upper()}>") for name in SPECIAL_TOKENS}
    return Vocabulary("yttm", tuple(model.vocab()), special_ids)


def _read_sentencepiece(path: str | Path) -> Vocabulary:
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = tuple(model.id_to_piece(index) for index in range(model.get_piece_size()))
    return Vocabulary("sentencepiece", pieces, {name: getattr(model, f"{name}_id")() for name in SPECIAL_TOKENS})


def loaded_vocabulary(tokenizer: Any, left_out: Collection[int] = ()) -> Vocabulary:
    """Returns the vocabulary of a tokenizer that NeMo has loaded, without the pieces of some ids."""
    pieces = tuple(tokenizer.ids_to_tokens([i])[0] for i in range(tokenizer.vocab_size) if i not in left_out)
    special_ids = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "bos", "eos")}
    return Vocabulary(type(tokenizer).__name__, pieces, special_ids)


def vocabulary_differences(where: str, own: Vocabulary, other: Vocabulary, whose: str = "the teacher's") -> list[str]:
    """Returns a sentence for each difference between two vocabularies.

    Args:
        whose: names the owner of the second vocabulary in the messages.
    """
    if own.library != other.library:
        return [f"{where} is a {own.library} tokenizer, but {whose} is {other.library}; they must be the same."]
    problems = []
    if len(own.pieces) != len(other.pieces):
        problems.append(f"{where} has {len(own.pieces)} pieces, {whose} {len(other.pieces)}; they must be the same.")
    elif own.pieces != other.pieces:
        first = next(i for i, pair in enumerate(zip(own.pieces, other.pieces)) if pair[0] != pair[1])
        problems.append(
            f"{where} has different pieces than {whose}: id {first} is '{own.pieces[first]}', "
            f"but {whose} is '{other.pieces[first]}'."
        )
    if own.special_ids != other.special_ids:
        problems.append(f"{where} has special ids {own.special_ids}, {whose} {other.special_ids}.")
    return problems


def with_special_tokens(path: str | Path) -> bytes:
    """Returns a SentencePiece model with the special tokens that it lacks added behind its own pieces.

    Marian's models have no `<pad>`. Control symbols do not change how text is split, nor the ids of other pieces.

    Raises:
        ValueError: if the file is damaged.
    """
    lacking = [name for name, index in read_vocabulary(path).special_ids.items() if index < 0]
    model = sentencepiece_proto(Path(path))
    pieces = [entry.piece for entry in model.pieces]
    for name in lacking:
        piece = getattr(model.trainer_spec, f"{name}_piece")
        if piece not in pieces:
            model.pieces.add(piece=piece, score=0.0)
            pieces.append(piece)
        entry = model.pieces[pieces.index(piece)]
        entry.type = entry.CONTROL
        setattr(model.trainer_spec, f"{name}_id", pieces.index(piece))
    return model.SerializeToString()


def sentencepiece_proto(path: Path) -> Any:
    """Returns the content of a SentencePiece model."""
    # Sentencepiece's own module needs a newer protobuf than NeMo allows.
    from transformers.utils import sentencepiece_model_pb2_new

    proto = sentencepiece_model_pb2_new.ModelProto()
    proto.ParseFromString(path.read_bytes())
    return proto


def piece_differences(where: str, own: Vocabulary, other: Vocabulary, whose: str = "the teacher's") -> list[str]:
    """Returns a sentence if two vocabularies have other pieces, in whatever order; special tokens do not count.

    Args:
        where: the key of the first tokenizer, such as `model.encoder_tokenizer`, for the message.
        own: the first vocabulary.
        other: the vocabulary whose pieces it must have.
        whose: names the owner of the second vocabulary in the message.
    """
    if own.library != other.library:
        return vocabulary_differences(where, own, other, whose)
    special = {one.pieces[index] for one in (own, other) for index in one.special_ids.values() if index >= 0}
    ours, theirs = set(own.pieces) - special, set(other.pieces) - special
    if ours == theirs:
        return []
    parts = [
        f"{count:,} pieces of {owner} are not in {of}, such as {', '.join(map(repr, sorted(pieces)[:3]))}"
        for owner, of, pieces in ((where, whose, ours - theirs), (whose, where, theirs - ours))
        if (count := len(pieces))
    ]
    return [
        f"{where} has {len(ours):,} pieces, {whose} {len(theirs):,}: {'; '.join(parts)}; set "
        f"{where}.tokenizer_model=null to take {whose}."
    ]


def missing_special_tokens(vocabulary: Vocabulary) -> str:
    """Returns the special tokens that a vocabulary lacks, such as `pad_id=-1`; an empty string if it has all."""
    return ", ".join(f"{name}_id={index}" for name, index in vocabulary.special_ids.items() if index < 0)


def tokenizer_file_problems(where: str, path: Any, adds_tokens: bool = False) -> list[str]:
    """Returns a sentence if `path` is not a tokenizer file that NeMo can use.

    Args:
        adds_tokens: True with `sentencepiece_legacy`, with which NeMo adds special tokens that are missing.
    """
    if not isinstance(path, str) or not is_file(path):
        return [f"{where} names '{path}', which does not exist."]
    try:
        vocabulary = read_vocabulary(user_path(path))
    except ValueError as error:
        return [f"{where}: {error}."]
    if adds_tokens or not (missing := missing_special_tokens(vocabulary)):
        return []
    return [
        f"{where}: '{path}' has {missing}, but translation needs all special tokens. Train it with 'nemo-distill "
        "prepare', or with spm_train --pad_id=3 --bos_id=1 --eos_id=2 --unk_id=0. In a training, you can also set "
        "sentencepiece_legacy=true next to it, which adds what is missing."
    ]
