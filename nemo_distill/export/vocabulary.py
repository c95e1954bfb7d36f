"""Token names for the ids of an exported model."""

from collections.abc import Mapping
from dataclasses import dataclass

from nemo_distill.nemo_files.tokenizer_files import Vocabulary

NAMED = ("unk", "bos", "eos")


@dataclass(frozen=True)
class Vocabularies:
    """The tokens of both sides in the order of their ids. Within a side, all tokens are different.

    Args:
        source: the encoder's tokens.
        target: the decoder's tokens.
        special_tokens: the names of unk, bos and eos, the same on both sides.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    special_tokens: Mapping[str, str]


def name_ids(source: Vocabulary, target: Vocabulary, source_size: int, target_size: int) -> Vocabularies:
    """Names the ids by their pieces. Special ids have the target's names on both sides.

    Args:
        source: the encoder's tokenizer.
        target: the decoder's tokenizer.
        source_size: number of rows in the encoder's embeddings. NeMo 1.x pads the vocabulary to a multiple of 8; the
            additional ids get names of their own.
        target_size: number of rows in the decoder's embeddings.
    """
    special_tokens = {name: target.pieces[target.special_ids[name]] for name in NAMED}
    return Vocabularies(
        _tokens(source, source_size, special_tokens), _tokens(target, target_size, special_tokens), special_tokens
    )


def _tokens(vocabulary: Vocabulary, size: int, special_tokens: Mapping[str, str]) -> tuple[str, ...]:
    tokens = [*vocabulary.pieces, *(f"<unused_{index}>" for index in range(len(vocabulary.pieces), size))]
    names = {vocabulary.special_ids[name]: token for name, token in special_tokens.items()}
    taken = set(names.values())
    for index, token in enumerate(tokens):
        if index in names:
            tokens[index] = names[index]
            continue
        while token in taken:
            token += "_"
        tokens[index] = token
        taken.add(token)
    return tuple(tokens)
