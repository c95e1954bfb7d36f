"""Translates with a sequence-to-sequence model of Hugging Face: Marian and OPUS-MT, NLLB, M2M-100, mBART, T5."""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.decoding.batching import batches_by_length
from nemo_distill.decoding.engine import EMPTY, Hypothesis, Translation
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.storage.records import read_json

TOKENS_IN_BATCH = 4096
SEEDS = 1 << 31
SAFELY = {"local_files_only": True, "trust_remote_code": False}  # nothing is fetched, no code of a folder is run
ADAPTER = "adapter_config.json"


class HuggingFaceEngine:
    """An `Engine` over a folder that Hugging Face's `save_pretrained` wrote, or that was fetched from its hub.

    Nothing is fetched, and no code of the folder is run. What the model's own generation config forbids
    (`bad_words_ids`) holds, but no end is forced on what the limit of length cuts; how to search is said by
    `SearchSettings` alone. Length penalties are `power`. Only sources of one length, in tokens, go into a batch, so
    that a translation does not depend on the lines beside it; each sample is drawn by itself for the same reason.

    Args:
        folder: with `config.json`, weights and tokenizer.
        device: such as `cpu` or `cuda:1`.
        dtype: of the weights: float32, float16 or bfloat16.
        source_language: the tokenizer's code of it, such as `deu_Latn`; for multilingual models.
        target_language: likewise.

    Raises:
        ConfigurationError: if a language is missing, or is none that the tokenizer knows.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str = "cpu",
        dtype: str = "float32",
        source_language: str | None = None,
        target_language: str | None = None,
    ):
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **SAFELY)
            model = AutoModelForSeq2SeqLM.from_pretrained(folder, torch_dtype=getattr(torch, dtype), **SAFELY)
        except (
            Exception
        ) as error:  # whatever transformers stumbles over, of code that it would have to run or in files
            raise ConfigurationError(
                [f"model: '{folder}' cannot be loaded: {' '.join(str(error).split())}"]
            ) from error
        self._model = model.to(device).eval()
        self._device = device
        self._forced = _language_options(self._tokenizer, source_language, target_language)
        self._longest = min(self._tokenizer.model_max_length, _positions(model.config))

    @torch.inference_mode()
    def translate(self, lines: Sequence[str], settings: SearchSettings) -> list[Translation]:
        """Translates `lines`, in their order.

        Raises:
            ConfigurationError: if the settings ask for what this engine cannot do.
        """
        if problems := settings.problems() or beyond_hugging_face(settings):
            raise ConfigurationError(problems)
        wanted = [index for index, line in enumerate(lines) if line.strip()]
        encoded = self._tokenizer([lines[index].strip() for index in wanted])["input_ids"] if wanted else []
        translations = [EMPTY] * len(lines)
        for batch in self._batches(encoded, settings):
            ids = torch.tensor([self._cut(encoded[item]) for item in batch], device=self._device)  # (B, S)
            if settings.method == "sample":
                text = f"{settings.seed} {ids.tolist()}"
                torch.manual_seed(zlib.crc32(text.encode()) % SEEDS)
            for item, hypotheses in zip(batch, self._generate(ids, settings)):
                cut = len(encoded[item]) > self._longest
                translations[wanted[item]] = Translation(tuple(hypotheses), cut)
        return translations

    def _cut(self, ids: list[int]) -> list[int]:
        return ids if len(ids) <= self._longest else [*ids[: self._longest - 1], ids[-1]]

    def _batches(self, encoded: Sequence[list[int]], settings: SearchSettings) -> list[list[int]]:
        if settings.method == "sample":
            return [[item] for item in range(len(encoded))]
        by_length = defaultdict(list)
        for item, ids in enumerate(encoded):
            by_length[min(len(ids), self._longest)].append(item)
        batches = []
        for length, items in sorted(by_length.items(), reverse=True):
            lengths = [length * settings.beam_size] * len(items)
            batches += [[items[index] for index in part] for part in batches_by_length(lengths, TOKENS_IN_BATCH)]
        return batches

    def _generate(self, ids: Tensor, settings: SearchSettings) -> list[list[Hypothesis]]:
        limit = _positions(self._model.config) - 1
        if settings.max_delta is not None:
            limit = min(limit, ids.shape[1] + settings.max_delta)
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            num_return_sequences=settings.n_best,
            output_scores=settings.follows_a_beam,
            output_logits=not settings.follows_a_beam,
            return_dict_in_generate=True,
            forced_eos_token_id=None,  # which would end what the limit cuts
            **_search_options(settings),
            **self._forced,
        )
        scores = self._scores(output, settings)
        end = self._model.generation_config.eos_token_id
        texts = self._tokenizer.batch_decode(output.sequences, skip_special_tokens=True)
        found = [
            Hypothesis(text.strip(), score, bool((sequence[1:] == end).any()))
            for text, score, sequence in zip(texts, scores, output.sequences)
        ]
        per_line = [found[start : start + settings.n_best] for start in range(0, len(found), settings.n_best)]
        return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) for hypotheses in per_line]

    def _scores(self, output: Any, settings: SearchSettings) -> list[float]:
        """Returns log p(y|x) / lp(|y|) of each hypothesis."""
        if settings.follows_a_beam:
            steps = self._model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
        else:  # the logits, since the scores are those that samples are drawn from
            steps = self._model.compute_transition_scores(output.sequences, output.logits, normalize_logits=True)
        pad = self._model.generation_config.pad_token_id
        tokens = output.sequences[:, -steps.shape[1] :] != pad  # (B * n_best, T), as the steps
        totals = steps.masked_fill(~tokens, 0.0).sum(-1)
        return (totals / settings.penalty(tokens.sum(-1))).tolist()


def _search_options(settings: SearchSettings) -> dict[str, Any]:
    if settings.method == "beam":
        penalty = settings.length_penalty if settings.follows_a_beam else 1.0
        return {
            "do_sample": False,
            "num_beams": settings.beam_size,
            "length_penalty": penalty,
            "early_stopping": False,
        }
    return {
        "do_sample": True,
        "num_beams": 1,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "temperature": settings.temperature,
    }


def _language_options(tokenizer: Any, source: str | None, target: str | None) -> dict[str, int]:
    """Sets the tokenizer's source language, and returns what makes the model write the target language."""
    if not hasattr(tokenizer, "src_lang"):
        return {}
    problems = []
    for key, language in (("source_language", source), ("target_language", target)):
        if language is None or _language_id(tokenizer, language) in (None, tokenizer.unk_token_id):
            problems.append(f"{key}={language}: must be one of the codes of the model's tokenizer, such as deu_Latn.")
    if problems:
        raise ConfigurationError(problems)
    tokenizer.src_lang = source
    return {"forced_bos_token_id": _language_id(tokenizer, target)}


def _language_id(tokenizer: Any, language: str) -> int | None:
    codes = getattr(tokenizer, "lang_code_to_token", {})  # of M2M-100, whose tokens look like __de__
    return tokenizer.convert_tokens_to_ids(codes.get(language, language))


def _positions(config: Any) -> int:
    return getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", 512)


def beyond_hugging_face(settings: SearchSettings) -> list[str]:
    """Returns a sentence for each setting that Hugging Face's search cannot follow."""
    return settings.beyond_power("Hugging Face")


def folder_problems(path: str | Path) -> list[str]:
    """Returns a sentence if a path is no folder of a sequence-to-sequence model."""
    config = Path(path) / "config.json"
    if not Path(path).is_dir() or not config.is_file():
        return [f"model names '{path}'; engine=hugging_face takes a folder with a config.json, weights and tokenizer."]
    if (Path(path) / ADAPTER).exists():
        return [f"model names '{path}', which holds {ADAPTER}: the model would be another folder's."]
    try:
        kind = read_json(config)
    except DataError as error:
        return [f"model: {error}."]
    if kind.get("is_encoder_decoder") is not True:
        return [f"model names '{path}', whose config.json is of no sequence-to-sequence model."]
    return []
