"""The engines for NeMo models, with our own search and with NeMo's."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from torch import Tensor, nn

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.decoding.asked_languages import nemo_languages
from nemo_distill.decoding.cached_decoder import CachedDecoder, EnsembleDecoder
from nemo_distill.decoding.engine import EMPTY, Hypothesis, Translation, batches_by_length
from nemo_distill.decoding.search import Found, SpecialIds, StepDecoder, search
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.nemo_files.model_kinds import is_tagged, number_of_positions, reading_differences
from nemo_distill.nemo_files.nemo_tokenizers import text_of
from nemo_distill.nemo_files.processors import tokenized
from nemo_distill.text.batches import SPECIAL_TOKENS
from nemo_distill.text.lines import is_blank

# Number of hypotheses times source tokens decoded together. GPUs need large batches; on a CPU they gain little.
TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}


def search_settings(model: Mapping[str, Any]) -> SearchSettings:
    """Returns the search settings in a model's own config."""
    delta = model["max_generation_delta"]
    return SearchSettings(
        beam_size=model["beam_size"], length_penalty=model["len_pen"], max_delta=None if delta < 0 else delta
    )


class TextEngine(ABC):
    """The base class of both engines. Converts text to ids and back, exactly as NeMo's `translate` does.

    Args:
        model: provides tokenizers and processors; in eval mode.
        source_language: only for multilingual models.
        target_language: only for multilingual models, whose sources may begin with its tag.
        reads_ids: True if sources are given as ids, with their tags, and the model's current processors apply.

    Raises:
        ConfigurationError: if a multilingual model needs a language, or does not know it.
    """

    max_source_length: int  # the most tokens that the encoder reads, special ones included
    max_target_length: int  # the most tokens in a hypothesis, its end included

    def __init__(
        self,
        model: MTEncDecModel,
        source_language: str | None = None,
        target_language: str | None = None,
        reads_ids: bool = False,
    ):
        self.model = model
        self.max_source_length = number_of_positions(model.cfg, "encoder")
        self.prefix: list[int] = []
        config = {**model.cfg, "multilingual": model.multilingual}
        languages, problems = nemo_languages(config, (source_language, target_language))
        if problems and not reads_ids:
            raise ConfigurationError(problems)
        if model.multilingual and not reads_ids:
            self._choose_languages(*languages)
        else:  # NeMo gives a multilingual model none until it is validated
            self.source_processor = getattr(model, "source_processor", None)
            self.target_processor = getattr(model, "target_processor", None)

    def _choose_languages(self, source: str | None, target: str | None) -> None:
        model = self.model
        self.source_processor, self.target_processor = MTEncDecModel.setup_pre_and_post_processing_utils(
            source, target, model.encoder_tokenizer_library, model.decoder_tokenizer_library
        )
        if is_tagged(model.cfg):  # the target's tag, as in training; NeMo's `translate` prefers the source's
            self.prefix = [model.multilingual_lang_to_id[target]]

    def translate(self, lines: Sequence[str], settings: SearchSettings) -> list[Translation]:
        """See `Engine`."""
        translations = [EMPTY] * len(lines)
        by_line = {index: self.source_ids(line) for index, line in enumerate(lines) if not is_blank(line)}
        worded = [index for index, source in by_line.items() if len(source) > len(self.prefix) + SPECIAL_TOKENS]
        sources = [by_line[index] for index in worded]
        for index, source, hypotheses in zip(worded, sources, self._search(sources, settings)):
            texts = (Hypothesis(self._text(found.tokens), found.score, found.finished) for found in hypotheses)
            translations[index] = Translation(tuple(texts), source_cut=len(source) > self.max_source_length)
        return translations

    def source_ids(self, line: str) -> list[int]:
        """Returns the ids of a line, including special ids."""
        line = tokenized(line, self.source_processor)
        tokenizer = self.model.encoder_tokenizer
        return [*self.prefix, tokenizer.bos_id, *tokenizer.text_to_ids(line), tokenizer.eos_id]

    def _never(self, settings: SearchSettings) -> tuple[int, ...]:
        """Returns the ids that no search generates: padding, and unless they are allowed, unknown words.

        Where the head has more outputs than the tokenizer has pieces, as in models of older versions of NeMo, which
        rounded up the vocabulary size, these are unknown words too.
        """
        tokenizer = self.model.decoder_tokenizer
        unknown = [tokenizer.unk_id, *range(tokenizer.vocab_size, self.model.decoder.vocab_size)]
        return tuple(sorted({tokenizer.pad_id, *([] if settings.allow_unknown else unknown)} - {tokenizer.eos_id}))

    def _text(self, tokens: list[int]) -> str:
        tokenizer = self.model.decoder_tokenizer
        known = [token if token < tokenizer.vocab_size else tokenizer.unk_id for token in tokens]
        text = text_of(known, tokenizer)
        return self.target_processor.detokenize(text.split(" ")) if self.target_processor is not None else text

    def _cut(self, source: list[int]) -> list[int]:
        """Cuts a source to the encoder's maximum length and keeps its end symbol."""
        most = self.max_source_length
        return source if len(source) <= most else [*source[: most - 1], source[-1]]

    def _batch(self, sources: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        pad = self.model.encoder_tokenizer.pad_id
        width = max(map(len, sources))
        ids = torch.tensor([source + [pad] * (width - len(source)) for source in sources], device=self.model.device)
        lengths = torch.tensor([len(source) for source in sources], device=self.model.device)
        return ids, torch.arange(width, device=ids.device) < lengths.unsqueeze(1)

    def _limit(self, source: list[int], settings: SearchSettings) -> int:
        """Returns the maximum number of tokens in a hypothesis, including its end. Language tokens do not count."""
        if settings.max_delta is None:
            return self.max_target_length
        return min(self.max_target_length, len(source) - len(self.prefix) + settings.max_delta)

    @abstractmethod
    def _search(self, sources: list[list[int]], settings: SearchSettings) -> list[list[Found]]:
        """Returns the hypotheses of each source."""


class CachedEngine(TextEngine):
    """Translates with our own search and one model, or the average of several models' distributions.

    Args:
        models: the models, in eval mode, with the same target vocabulary and tokenizers.
        weights: the weight of each model; None: equal weights.
        source_language: see `TextEngine`.
        target_language: see `TextEngine`.
        tokens_per_batch: number of hypotheses times source tokens decoded together; None: depends on the device.
        reads_ids: see `TextEngine`.

    Raises:
        ConfigurationError: if a model reads or writes text unlike the first one; see also `TextEngine`.
    """

    def __init__(
        self,
        models: Sequence[MTEncDecModel],
        weights: Sequence[float] | None = None,
        source_language: str | None = None,
        target_language: str | None = None,
        tokens_per_batch: int | None = None,
        reads_ids: bool = False,
    ):
        super().__init__(models[0], source_language, target_language, reads_ids)
        if not reads_ids:
            _check_reading(models)
        decoders = [CachedDecoder(model) for model in models]
        self.decoder: StepDecoder = decoders[0] if len(decoders) == 1 else EnsembleDecoder(decoders, weights)
        self.max_source_length = min(number_of_positions(model.cfg, "encoder") for model in models)
        self.max_target_length = min(decoder.max_length for decoder in decoders)
        self.tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH.get(self.model.device.type, 4096)
        tokenizer = self.model.decoder_tokenizer
        self.special = SpecialIds(tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)

    @torch.inference_mode()
    def translate(self, lines: Sequence[str], settings: SearchSettings) -> list[Translation]:
        """See `Engine`."""
        return super().translate(lines, settings)

    def _search(self, sources: list[list[int]], settings: SearchSettings) -> list[list[Found]]:
        found: list[list[Found]] = [[] for _ in sources]
        sources = [self._cut(source) for source in sources]
        width = settings.beam_size if settings.method == "beam" else settings.n_best
        for batch in batches_by_length([len(source) for source in sources], self.tokens_per_batch // width):
            results = self.search_batch([sources[index] for index in batch], settings)
            for index, hypotheses in zip(batch, results):
                found[index] = hypotheses
        return found

    def search_ids(self, src_ids: Tensor, src_mask: Tensor, settings: SearchSettings) -> list[Found]:
        """Returns the best hypothesis of each source. `src_ids` and `src_mask` are (B, S).

        Not in torch's inference mode, whose tensors must not reach a training.
        """
        sources = [row[mask.bool()].tolist() for row, mask in zip(src_ids, src_mask)]
        return [best for best, *_ in self._search(sources, settings)]

    @torch.inference_mode()
    def translate_ids(self, src_ids: Tensor, src_mask: Tensor, settings: SearchSettings) -> list[str]:
        """Returns the best translation of each source as text. `src_ids` and `src_mask` are (B, S)."""
        return [self._text(best.tokens) for best in self.search_ids(src_ids, src_mask, settings)]

    def search_batch(self, sources: Sequence[list[int]], settings: SearchSettings) -> list[list[Found]]:
        """Translates sources together in one batch."""
        ids, mask = self._batch(sources)
        limits = [self._limit(source, settings) for source in sources]
        uniforms = None
        if settings.method == "sample":
            uniforms = torch.stack([_uniforms(source, settings, max(limits)) for source in sources]).to(ids.device)
        special = replace(self.special, never=self._never(settings))
        return search(self.decoder, ids, mask, torch.tensor(limits, device=ids.device), special, settings, uniforms)


def _check_reading(models: Sequence[MTEncDecModel]) -> None:
    """Rejects models for which the first one's tags, Moses and order of tokens are wrong."""
    problems = [
        f"models[{number}] has {key}={own}, but models[0] has {key}={first}; they must be the same."
        for number, model in enumerate(models)
        for key, own, first in reading_differences(model.cfg, models[0].cfg)
    ]
    if problems:
        raise ConfigurationError(problems)


def _uniforms(source: list[int], settings: SearchSettings, count: int) -> Tensor:
    """Returns random numbers (n_best, count) that depend only on the sentence and the seed."""
    digest = hashlib.sha256(f"{settings.seed} {source}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    return torch.rand(count, settings.n_best, generator=generator).T


class _RestrictedHead(nn.Module):
    """NeMo's head without some ids, for NeMo's search. The other ids share their probability."""

    def __init__(self, log_softmax: nn.Module, never: Sequence[int]):
        super().__init__()
        self.log_softmax, self.never = log_softmax, list(never)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.restricted(self.log_softmax.forward(hidden_states=hidden_states))

    def restricted(self, log_probs: Tensor) -> Tensor:
        """Returns the log-probabilities (..., V) among the other ids."""
        never = torch.tensor(self.never, dtype=torch.long, device=log_probs.device)
        return log_probs.index_fill(-1, never, -torch.inf).log_softmax(dim=-1)


class NeMoEngine(TextEngine):
    """NeMo's own beam search, for comparison.

    It decodes one sentence at a time, because NeMo's search is wrong for larger batches: it mixes up the sentences'
    first positions. It returns a single hypothesis and supports neither samples nor other length penalties than `wu`.
    Scores are computed again, because NeMo mixes up the length penalties of different hypotheses.
    """

    def __init__(self, model: MTEncDecModel, source_language: str | None = None, target_language: str | None = None):
        super().__init__(model, source_language, target_language)
        self.max_target_length = model.decoder.max_sequence_length

    @torch.no_grad()
    def _search(self, sources: list[list[int]], settings: SearchSettings) -> list[list[Found]]:
        if settings.method != "beam" or settings.n_best > 1 or settings.length_penalty_form != "wu":
            raise ValueError("NeMo's search supports only a beam with one result and length_penalty_form=wu.")
        beam_search = self.model.beam_search
        beam_search.beam_size, beam_search.len_pen = settings.beam_size, settings.length_penalty
        beam_search.max_delta_len = -1 if settings.max_delta is None else settings.max_delta
        return [[self._search_one(self._cut(source), settings)] for source in sources]

    def _search_one(self, source: list[int], settings: SearchSettings) -> Found:
        ids, mask = self._batch([source])
        beam_search = self.model.beam_search
        longest, beam_search.max_seq_length = beam_search.max_seq_length, self._limit(source, settings)
        log_softmax = beam_search.log_softmax
        beam_search.log_softmax = head = _RestrictedHead(log_softmax, self._never(settings))
        try:
            hidden = self.model.encoder(input_ids=ids, encoder_mask=mask)
            best = beam_search(encoder_hidden_states=hidden, encoder_input_mask=mask)
        finally:
            beam_search.max_seq_length, beam_search.log_softmax = longest, log_softmax
            self.model.eval().requires_grad_(False)  # NeMo's search leaves the decoder in train mode
        tokenizer = self.model.decoder_tokenizer
        tokens = best[0, 1:].tolist()
        ends = [index for index, token in enumerate(tokens) if token == tokenizer.eos_id]
        labels = tokens[: ends[0] + 1] if ends else tokens
        score = self._log_prob(ids, mask, labels, head) / settings.penalty(len(labels))
        return Found(labels[:-1] if ends else labels, score, bool(ends))

    def _log_prob(self, src_ids: Tensor, src_mask: Tensor, labels: list[int], head: _RestrictedHead) -> float:
        """Returns the total log-probability of a translation, given its source `src_ids` (1, S)."""
        tgt_ids = src_ids.new_tensor([[self.model.decoder_tokenizer.bos_id, *labels[:-1]]])  # (1, T)
        log_probs = head.restricted(self.model(src_ids, src_mask, tgt_ids, torch.ones_like(tgt_ids))[0])  # (T, V)
        return log_probs.gather(-1, src_ids.new_tensor(labels).unsqueeze(-1)).sum().item()
