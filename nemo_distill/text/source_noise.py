"""Noise in the source that the student reads, so that it does not just imitate its teacher (Xie et al. 2020,
"Self-training with Noisy Student", arXiv 1911.04252; for translation, He et al. 2020, arXiv 1909.13788).

Noise of the text (`text_noise`) comes first; the text is then tokenized again. Dropping, moving and masking apply to
whole words. BPE-dropout finally splits the words into pieces again. The teacher reads the source without noise.
"""

from collections.abc import Collection, Sequence
from random import Random
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import section
from nemo_distill.text.text_noise import TextNoise

WORD_START = "▁"  # marks the first piece of a word in SentencePiece and youtokentome
SEEDS = 1 << 31
NO_MERGE = float("-inf")


@section
class SourceNoise(TextNoise):
    """The types and amounts of noise."""

    word_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping a word (Iyyer et al. 2015). At least one word remains."""
    swap_distance: int = Field(default=0, ge=0)
    """Maximum distance by which words move; 3 is usual (Lample et al. 2018, arXiv 1711.00043, section 2.3)."""
    mask: float = Field(default=0.0, ge=0, lt=1)
    """Probability of replacing a word with the unknown token."""
    bpe_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of skipping a BPE merge; 0.1 is usual (Provilkov et al. 2020, arXiv 1910.13267)."""

    @property
    def is_none(self) -> bool:
        """True if there is no noise."""
        return self == SourceNoise()


class NoisySource:
    """Adds noise to batches. The random numbers come from torch's generator.

    Args:
        tokenizer: the NeMo tokenizer, SentencePiece or youtokentome.
        fixed_ids: tokens that stay in place at the ends of a sentence, such as its start and end symbols.
        longest: the maximum length. A sentence that would become longer is not changed.
        tags: words that stay as they are where a sentence begins with one, such as that of back-translated text.

    Raises:
        ConfigurationError: if the tokenizer does not mark word starts, or does not support BPE-dropout.
    """

    def __init__(
        self,
        noise: SourceNoise,
        tokenizer: Any,
        fixed_ids: Collection[int],
        longest: int,
        tags: Collection[str] = (),
    ):
        self.noise, self.tokenizer, self.fixed_ids, self.longest = noise, tokenizer, frozenset(fixed_ids), longest
        self._sampler = _sampler(tokenizer, noise)
        self._tags = [list(tokenizer.text_to_ids(tag)) for tag in tags]

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
        begin += max((len(tag) for tag in self._tags if list(ids[begin : begin + len(tag)]) == tag), default=0)
        if begin == end:
            return ids
        words = self._noisy_words(self._words(self._noisy_text(ids[begin:end], random)), random)
        noisy = [*ids[:begin], *(token for word in words for token in word), *ids[end:]]
        return noisy if len(noisy) <= self.longest else ids

    def _noisy_text(self, ids: Sequence[int], random: Random) -> Sequence[int]:
        """Returns the ids of the text with noise; of a text with unknown pieces the same ids."""
        if not self.noise.changes_text or self.tokenizer.unk_id in ids:
            return ids
        words = self.tokenizer.ids_to_text(list(ids)).split()
        noisy = self.noise.of_text(words, random)
        return ids if noisy == words else self.tokenizer.text_to_ids(" ".join(noisy)) or ids

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
            kept = [self._resegment(word, random) for word in kept]
        return [[self.tokenizer.unk_id] if random.random() < noise.mask else word for word in kept]

    def _resegment(self, word: list[int], random: Random) -> list[int]:
        if not self._sampler.whole.isdisjoint(word):
            return word
        text = "".join(self.tokenizer.ids_to_tokens(word))
        if not text.startswith(WORD_START) or text == WORD_START:  # the tokenizer would not reproduce it
            return word
        return self._sampler.encode(text.removeprefix(WORD_START), random) or word


class _SentencePieceSampler:
    """Applies SentencePiece's merges and skips each with a probability.

    SentencePiece can do this itself, but not reproducibly: in version 0.2.3, each process gets different pieces for
    the same seed.

    `whole` has the ids of pieces whose words are not split again: the unknown piece, whose text is not known, and
    user-defined symbols, which no merges make.
    """

    def __init__(self, tokenizer: Any, dropout: float):
        model = tokenizer.tokenizer
        self._ids = {model.id_to_piece(index): index for index in range(len(model)) if _is_plain(model, index)}
        self._scores = {piece: model.get_score(index) for piece, index in self._ids.items()}
        self._dropout = 0.0
        # SentencePiece does not tell which pieces are user-defined. Their score is 0, as is that of the first merge.
        first = [piece for piece, score in self._scores.items() if score == 0]
        symbols = {self._ids[piece] for piece in first if self._merged(list(piece), Random()) != [piece]}
        self.whole = frozenset({tokenizer.unk_id, *symbols})
        self._dropout = dropout

    def encode(self, text: str, random: Random) -> list[int]:
        """Returns the ids of a word's pieces; an empty list if one of its characters is not a piece."""
        characters = list(WORD_START + text)
        if not all(character in self._ids for character in characters):
            return []
        return [self._ids[piece] for piece in self._merged(characters, random)]

    def _merged(self, pieces: list[str], random: Random) -> list[str]:
        scores = [self._score(pieces, place) for place in range(len(pieces) - 1)]  # of each piece and the next
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
        return pieces

    def _score(self, pieces: Sequence[str], place: int) -> float:
        return self._scores.get(pieces[place] + pieces[place + 1], NO_MERGE)


def _is_plain(model: Any, index: int) -> bool:
    return not (model.is_control(index) or model.is_unknown(index) or model.is_byte(index) or model.is_unused(index))


class _YouTokenToMeSampler:
    def __init__(self, tokenizer: Any, dropout: float):
        self._model, self._dropout = tokenizer.tokenizer, dropout
        self.whole = frozenset({tokenizer.unk_id})

    def encode(self, text: str, random: Random) -> list[int]:
        """Returns the ids of a word's pieces. Ignores `random`, because youtokentome cannot be seeded."""
        return self._model.encode([text], dropout_prob=self._dropout)[0]


def _sampler(tokenizer: Any, noise: SourceNoise) -> _SentencePieceSampler | _YouTokenToMeSampler:
    kind = type(tokenizer).__name__
    if kind == "YouTokenToMeTokenizer":
        return _YouTokenToMeSampler(tokenizer, noise.bpe_dropout)
    if kind != "SentencePieceTokenizer":
        raise ConfigurationError(
            [f"model.distillation.noise needs a sentencepiece or yttm source tokenizer, but this is a {kind}."]
        )
    if noise.bpe_dropout and not _is_bpe(tokenizer):
        raise ConfigurationError(
            [f"model.distillation.noise.bpe_dropout={noise.bpe_dropout}: the source tokenizer is not a BPE model."]
        )
    return _SentencePieceSampler(tokenizer, noise.bpe_dropout)


def _is_bpe(tokenizer: Any) -> bool:
    """True if all scores are integers: BPE uses ranks as scores, unigram models use log-probabilities."""
    model = tokenizer.tokenizer
    pieces = [index for index in range(len(model)) if not (model.is_control(index) or model.is_unknown(index))]
    return all(model.get_score(index).is_integer() for index in pieces)
