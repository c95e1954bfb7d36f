"""Noise on the student's side of the source, so that it must learn more than to repeat its teacher (Xie et al. 2020,
"Self-training with Noisy Student", arXiv 1911.04252; for translation, He et al. 2020, arXiv 1909.13788).

Words are dropped, moved and masked as a whole, whatever pieces they are made of; BPE-dropout then cuts them anew. The
teacher reads the same batch as it is.
"""

from collections.abc import Collection, Sequence
from random import Random
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import section

WORD_START = "▁"  # that pieces of SentencePiece and youtokentome begin a word with
SEEDS = 1 << 31
NO_MERGE = float("-inf")


@section
class SourceNoise:
    """How much noise."""

    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    """The probability that a word is left out (Iyyer et al. 2015); one word always stays."""
    swap_distance: int = Field(default=0, ge=0)
    """Words move by at most this many places; 3 is usual (Lample et al. 2018, arXiv 1711.00043, section 2.3)."""
    mask: float = Field(default=0.0, ge=0, lt=1)
    """The probability that a word is replaced by the unknown token."""
    bpe_dropout: float = Field(default=0.0, ge=0, lt=1)
    """The probability that a merge is left out; 0.1 is usual (Provilkov et al. 2020, arXiv 1910.13267)."""

    @property
    def is_none(self) -> bool:
        """True if nothing is changed."""
        return self == SourceNoise()


class NoisySource:
    """Makes noisy batches of clean ones, with randomness from torch's generator.

    Args:
        noise: how much.
        tokenizer: NeMo's, of SentencePiece or youtokentome.
        fixed_ids: tokens that stay where they are at the ends of a line, such as the start and the end of a sentence.
        longest: a line that noise makes longer than this stays as it was.

    Raises:
        ConfigurationError: if the tokenizer does not tell where words begin, or cannot leave out merges.
    """

    def __init__(self, noise: SourceNoise, tokenizer: Any, fixed_ids: Collection[int], longest: int):
        self.noise, self.tokenizer, self.fixed_ids, self.longest = noise, tokenizer, frozenset(fixed_ids), longest
        self._sampler = _sampler(tokenizer, noise)

    def __call__(self, src_ids: Tensor, src_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns noisy ids (B, S') and their mask (B, S').

        Args:
            src_ids: (B, S).
            src_mask: (B, S), true at real tokens.
        """
        random = Random(int(torch.randint(SEEDS, ())))
        rows = [self._row(row[mask.bool()].tolist(), random) for row, mask in zip(src_ids.cpu(), src_mask.cpu())]
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, S')
        ids = torch.full(mask.shape, self.tokenizer.pad_id, dtype=src_ids.dtype)
        ids[mask] = torch.tensor([token for row in rows for token in row], dtype=src_ids.dtype)
        return ids.to(src_ids.device), mask.to(src_mask)

    def _row(self, ids: Sequence[int], random: Random) -> Sequence[int]:
        inside = [index for index, token in enumerate(ids) if token not in self.fixed_ids]
        if not inside:
            return ids
        begin, end = inside[0], inside[-1] + 1
        words = self._noisy_words(self._words(ids[begin:end]), random)
        noisy = [*ids[:begin], *(token for word in words for token in word), *ids[end:]]
        return noisy if len(noisy) <= self.longest else ids

    def _words(self, ids: Sequence[int]) -> list[list[int]]:
        words: list[list[int]] = []
        for token, piece in zip(ids, self.tokenizer.ids_to_tokens(list(ids))):
            if piece.startswith(WORD_START) or not words:
                words.append([])
            words[-1].append(token)
        return words

    def _noisy_words(self, words: list[list[int]], random: Random) -> list[list[int]]:
        noise = self.noise
        kept = [word for word in words if random.random() >= noise.word_dropout] or [random.choice(words)]
        if noise.swap_distance:
            places = [index + random.uniform(0, noise.swap_distance + 1) for index in range(len(kept))]
            kept = [word for _, word in sorted(zip(places, kept), key=lambda pair: pair[0])]
        if noise.bpe_dropout:
            kept = [self._cut_anew(word, random) for word in kept]
        return [[self.tokenizer.unk_id] if random.random() < noise.mask else word for word in kept]

    def _cut_anew(self, word: list[int], random: Random) -> list[int]:
        if self.tokenizer.unk_id in word:  # whose text is not known
            return word
        text = "".join(self.tokenizer.ids_to_tokens(word))
        if not text.startswith(WORD_START) or text == WORD_START:  # what the tokenizer would not give back
            return word
        return self._sampler.encode(text.removeprefix(WORD_START), random) or word


class _SentencePieceSampler:
    """SentencePiece's merges, each of which is left out with a probability when its turn comes.

    SentencePiece samples so too, but cannot be made to repeat it: in 0.2.3 a seed gives each process other pieces.
    """

    def __init__(self, tokenizer: Any, dropout: float):
        model = tokenizer.tokenizer
        self._ids = {model.id_to_piece(index): index for index in range(len(model)) if _is_plain(model, index)}
        self._scores = {piece: model.get_score(index) for piece, index in self._ids.items()}
        self._dropout = dropout

    def encode(self, text: str, random: Random) -> list[int]:
        """Returns the ids of a word's pieces; none if a character of it is no piece."""
        pieces = list(WORD_START + text)
        if not all(piece in self._ids for piece in pieces):
            return []
        scores = [self._score(pieces, place) for place in range(len(pieces) - 1)]  # of each piece with the next
        while scores and (best := max(scores)) > NO_MERGE:
            place = scores.index(best)
            if random.random() < self._dropout:
                scores[place] = NO_MERGE
                continue
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
            del scores[place]
            for changed in (place - 1, place):
                if 0 <= changed < len(scores):
                    scores[changed] = self._score(pieces, changed)
        return [self._ids[piece] for piece in pieces]

    def _score(self, pieces: Sequence[str], place: int) -> float:
        return self._scores.get(pieces[place] + pieces[place + 1], NO_MERGE)


def _is_plain(model: Any, index: int) -> bool:
    return not (model.is_control(index) or model.is_unknown(index) or model.is_byte(index) or model.is_unused(index))


class _YouTokenToMeSampler:
    def __init__(self, tokenizer: Any, dropout: float):
        self._model, self._dropout = tokenizer.tokenizer, dropout

    def encode(self, text: str, random: Random) -> list[int]:
        """Returns the ids of a word's pieces, which `random` does not decide: nothing can seed youtokentome."""
        return self._model.encode([text], dropout_prob=self._dropout)[0]


def _sampler(tokenizer: Any, noise: SourceNoise) -> _SentencePieceSampler | _YouTokenToMeSampler:
    kind = type(tokenizer).__name__
    if kind == "YouTokenToMeTokenizer":
        return _YouTokenToMeSampler(tokenizer, noise.bpe_dropout)
    if kind != "SentencePieceTokenizer":
        raise ConfigurationError(
            [f"distillation.noise needs a source tokenizer of sentencepiece or yttm, and this is a {kind}."]
        )
    if noise.bpe_dropout and not _is_bpe(tokenizer):
        raise ConfigurationError(
            [f"distillation.noise.bpe_dropout={noise.bpe_dropout}: the source tokenizer is no BPE model."]
        )
    return _SentencePieceSampler(tokenizer, noise.bpe_dropout)


def _is_bpe(tokenizer: Any) -> bool:
    """The scores of BPE's pieces are their ranks; a unigram model's are log-probabilities."""
    model = tokenizer.tokenizer
    pieces = [index for index in range(len(model)) if not (model.is_control(index) or model.is_unknown(index))]
    return all(model.get_score(index).is_integer() for index in pieces)
