"""Converts sentencepiece and youtokentome tokenizers to a `tokenizer.json` for Hugging Face's `AutoTokenizer`.

NeMo's models have a tokenizer for each side, but Hugging Face's have one. If the sides differ, the tokenizer has the
pieces of both: first the target's, so that their ids stay as they are, then the source's. A target piece is named
differently there, so that text is never split into it.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_distill.export.record import ExportRecord
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary, sentencepiece_proto, tokenizer_library

SPACE = "▁"  # of both libraries, at the beginning of a word
TARGET = "\ue000"  # at the beginning of target pieces' names; a character for private use
SPECIAL = ("pad", "bos", "eos")
USER_DEFINED, UNIGRAM, BPE = 4, 1, 2  # sentencepiece's numbers of kinds of pieces and models
COMPOSING = ("nfkc", "nmt_nfkc")  # begin the names of sentencepiece's rules that compose characters
TILDE, NO_TILDE = "～", "\ue001"  # the rules nmt_* keep the full-width one, which NFKC would replace
REGEX_SIGN = re.compile(r"[\\^$.|?*+()\[\]{}]")  # JavaScript refuses a backslash before other signs
SEMITIC = range(10, 37)  # Unicode's combining classes of the vowel marks of Hebrew, Arabic and Syriac


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizer file, as far as `tokenizer.json` needs it.

    Args:
        names: the pieces in the order of their ids.
        special_ids: the ids of pad, unk, bos and eos.
        unknown: the text of an unknown piece.
        user_defined: ids of pieces that are never split.
        merges: pairs of pieces in the order in which BPE joins them; None for a unigram model.
        scores: log-probabilities of a unigram model's pieces.
        byte_fallback: unknown characters become bytes.
        dummy_prefix: text begins with a space.
        characters: sentencepiece's compiled rules for normalizing characters.
        one_space: several spaces become one, and none is at the ends.
        composes: these rules compose characters, such as a letter and its accent.
    """

    names: Sequence[str]
    special_ids: dict[str, int]
    unknown: str
    merges: Sequence[tuple[str, str]] | None
    scores: Sequence[float] = ()
    user_defined: Sequence[int] = ()
    byte_fallback: bool = False
    dummy_prefix: bool = True
    characters: bytes = b""
    one_space: bool = True
    composes: bool = False


def read_spec(path: Path) -> TokenizerSpec:
    """Reads a tokenizer file of sentencepiece or youtokentome."""
    vocabulary = read_vocabulary(path)
    if vocabulary.library == "yttm":
        return TokenizerSpec(vocabulary.pieces, vocabulary.special_ids, "", _yttm_merges(path, vocabulary.pieces))
    proto = sentencepiece_proto(path)
    names = vocabulary.pieces
    return TokenizerSpec(
        names,
        vocabulary.special_ids,
        proto.trainer_spec.unk_surface,
        _sentencepiece_merges(names) if proto.trainer_spec.model_type == BPE else None,
        [piece.score for piece in proto.pieces],
        [index for index, piece in enumerate(proto.pieces) if piece.type == USER_DEFINED],
        proto.trainer_spec.byte_fallback,
        proto.normalizer_spec.add_dummy_prefix,
        proto.normalizer_spec.precompiled_charsmap,
        proto.normalizer_spec.remove_extra_whitespaces,
        proto.normalizer_spec.name.startswith(COMPOSING),
    )


def tokenizer_problems(side: str, path: Path) -> list[str]:
    """Returns a sentence for each property of a tokenizer file that `tokenizer.json` cannot express."""
    if tokenizer_library(path) == "yttm":
        return []
    spec = sentencepiece_proto(path).trainer_spec
    problems = []
    if spec.model_type not in (UNIGRAM, BPE):
        problems.append(f"{side}_tokenizer: only sentencepiece's models 'bpe' and 'unigram' can be exported.")
    if spec.treat_whitespace_as_suffix:
        problems.append(f"{side}_tokenizer: treat_whitespace_as_suffix=true cannot be exported; it must be false.")
    return problems


def _sentencepiece_merges(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns all ways to make a piece of two others. The pieces are in the order of their scores."""
    known = set(names)
    return [
        (name[:cut], name[cut:])
        for name in names
        for cut in range(1, len(name))
        if name[:cut] in known and name[cut:] in known
    ]


def _yttm_merges(path: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns youtokentome's rules. Its file has two counts, then characters, then rules, each as three ids."""
    counts, *lines = path.read_text(encoding="utf-8").splitlines()
    characters, rules = map(int, counts.split())
    parts = (map(int, line.split()) for line in lines[characters : characters + rules])
    return [(names[left], names[right]) for left, right, _ in parts]


def build_tokenizer(folder: Path, record: ExportRecord, offset: int) -> Any:
    """Returns a `PreTrainedTokenizerFast` that gives and takes the ids of the exported model.

    Args:
        folder: must contain the tokenizers that the record names.
        record: the record of the export.
        offset: what the ids of source pieces are greater by than in the source's file; 0 if the sides are the same.
    """
    from tokenizers import AddedToken, Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    sides = [read_spec(folder / side.tokenizer) for side in (record.source, record.target)]
    tokenizer = Tokenizer(_model(sides[0], sides[1], offset))
    tokenizer.normalizer, tokenizer.pre_tokenizer = _reader(sides[0])
    tokenizer.decoder = _writer(sides[1])
    prefixes = "", TARGET if offset else ""
    special = [
        {key: prefix + side.names[side.special_ids[key]] for key in SPECIAL} for prefix, side in zip(prefixes, sides)
    ]
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for tokens in special for token in tokens.values()]
    )
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in _changed_by(tokenizer.normalizer, sides[0])])
    ends = [(special[0][key], offset + sides[0].special_ids[key]) for key in ("bos", "eos")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{ends[0][0]} $A {ends[1][0]}", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{key}_token": token for key, token in special[1].items()},
        model_max_length=record.target.positions,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _model(source: TokenizerSpec, target: TokenizerSpec, offset: int) -> Any:
    """Returns the model that splits source text; with an offset, its first ids are the target's pieces."""
    from tokenizers import models

    names = list(source.names)
    if offset:
        filled = [f"<unused_{index}>" for index in range(len(target.names), offset)]
        names = [*(TARGET + name for name in (*target.names, *filled)), *names]
    unknown = source.special_ids["unk"]
    if source.merges is None:
        scores = [*[0.0] * (len(names) - len(source.names)), *source.scores]
        return models.Unigram(list(zip(names, scores)), offset + unknown, source.byte_fallback)
    return models.BPE(
        {name: index for index, name in enumerate(names)},
        list(source.merges),
        unk_token=source.names[unknown],
        fuse_unk=True,
        byte_fallback=source.byte_fallback,
        ignore_merges=bool(source.user_defined),  # no merges make them; other pieces stay whole anyway
    )


def _reader(side: TokenizerSpec) -> tuple[Any, Any]:
    """Returns what normalizes text, and what splits it into words and user-defined symbols."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    steps: list[Any] = [*_composer(side), normalizers.Precompiled(side.characters)] if side.characters else []
    if side.one_space:
        spaces = " +" if side.scores else "[ \t\n\v\f\r▁]+"  # youtokentome splits at more than sentencepiece
        # Not `Strip`, which also takes other spaces than this one. ^ would be the beginning of any line here.
        ends = r"(?<![\s\S]) | (?![\s\S])"
        steps += [normalizers.Replace(Regex(spaces), " "), normalizers.Replace(Regex(ends), "")]
    scheme = "always" if side.dummy_prefix else "never"
    # Trained with split_by_whitespace=false, a piece may have parts of two words.
    in_words = not any(SPACE in name.lstrip(SPACE) for name in side.names)
    splitter: Any = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme, split=in_words)
    if side.user_defined:
        symbols = sorted((side.names[index] for index in side.user_defined), key=len, reverse=True)
        pattern = Regex("|".join(REGEX_SIGN.sub(r"\\\g<0>", symbol) for symbol in symbols))
        splitter = pre_tokenizers.Sequence([splitter, pre_tokenizers.Split(pattern, "isolated")])
    return normalizers.Sequence(steps), splitter


def _changed_by(normalizer: Any, side: TokenizerSpec) -> list[str]:
    """Returns the user-defined symbols that sentencepiece keeps although its rules would change them elsewhere."""
    symbols = (side.names[index] for index in side.user_defined)
    return [symbol for symbol in symbols if normalizer.normalize_str(symbol) != symbol]


def _composer(side: TokenizerSpec) -> list[Any]:
    """Returns what composes characters before `Precompiled`, which would drop some accents of decomposed text.

    It also gives marks Unicode's order, which sentencepiece does not. So it is left out if the model knows others.
    """
    from tokenizers import normalizers

    if not side.composes or any(map(_has_other_order, side.names)):
        return []
    return [normalizers.Replace(TILDE, NO_TILDE), normalizers.NFKC(), normalizers.Replace(NO_TILDE, TILDE)]


def _has_other_order(name: str) -> bool:
    """True if the marks of a piece are, or may be typed, in another order than Unicode's."""
    return not unicodedata.is_normalized("NFC", name) or any(unicodedata.combining(one) in SEMITIC for one in name)


def _writer(side: TokenizerSpec) -> Any:
    """Returns what turns target pieces into text."""
    from tokenizers import decoders

    unknown = side.names[side.special_ids["unk"]]
    return decoders.Sequence(
        [
            decoders.Replace(TARGET, ""),
            decoders.Replace(unknown, side.unknown),
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
