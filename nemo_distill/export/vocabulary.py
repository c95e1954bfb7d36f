"""The tokens that an exported model calls its ids by."""

from collections.abc import Mapping
from dataclasses import dataclass

from nemo_distill.nemo_files.tokenizer_files import Vocabulary

NAMED = ("unk", "bos", "eos")


@dataclass(frozen=True)
class Vocabularies:
    """Tokens in the order of their ids, each different from all others of its side.

    Args:
        source: the encoder's.
        target: the decoder's.
        special_tokens: what unk, bos and eos are called, on both sides.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    special_tokens: Mapping[str, str]


def name_ids(source: Vocabulary, target: Vocabulary, source_size: int, target_size: int) -> Vocabularies:
    """Names the ids of both sides by their pieces; special ones have the target's names on both sides.

    Args:
        source: the encoder's tokenizer.
        target: the decoder's.
        source_size: rows of the encoder's embeddings; those beyond the tokenizer's pieces, with which NeMo 1.x filled
            the vocabulary up to a multiple of 8, get names of their own.
        target_size: rows of the decoder's.
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
