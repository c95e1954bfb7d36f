"""Translates with sequence-to-sequence models of Hugging Face: Marian and OPUS-MT, NLLB, M2M-100, mBART, T5."""

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
from nemo_distill.text.files import as_list

TOKENS_IN_BATCH = 4096
SEEDS = 1 << 31
LOCAL_ONLY = {"local_files_only": True, "trust_remote_code": False}  # no downloads, and no code from the folder
ADAPTER = "adapter_config.json"
# The keys of a generation config that depend on the vocabulary. `SearchSettings` replaces the other keys.
VOCABULARY_KEYS = (
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
)


class HuggingFaceEngine:
    """An `Engine` for a folder written by Hugging Face's `save_pretrained` or downloaded from its hub.

    The engine downloads nothing and runs no code from the folder. The model's generation config determines the special
    and forbidden tokens (`bad_words_ids`). `SearchSettings` determines the search. Length penalties in a beam have the
    form `power`. A required language token is forced at the start, like the start symbol. It counts neither in scores
    nor in lengths. Each batch contains only sources with the same number of tokens, so that a translation does not
    depend on other lines. For the same reason, samples are drawn one at a time.

    Args:
        folder: the folder with `config.json`, weights and tokenizer.
        device: a device such as `cpu` or `cuda:1`.
        dtype: the type of the weights: float32, float16 or bfloat16.
        source_language: the tokenizer's code of the language, such as `deu_Latn`; only for multilingual models.
        target_language: the same for the target.

    Raises:
        ConfigurationError: if a language is missing or unknown to the tokenizer.
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
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL_ONLY)
            model = AutoModelForSeq2SeqLM.from_pretrained(folder, torch_dtype=getattr(torch, dtype), **LOCAL_ONLY)
        except Exception as error:  # transformers raises many types of errors for damaged files or required code
            raise ConfigurationError(
                [f"model: '{folder}' cannot be loaded: {' '.join(str(error).split())}"]
            ) from error
        language = _set_languages(self._tokenizer, source_language, target_language)
        self._prompt = _prompt(model.generation_config, language)
        model.generation_config = _without_search(model.generation_config)
        self._model = model.to(device).eval()
        self._device = device
        self._special_tokens = self._tokenizer.num_special_tokens_to_add()
        self._longest = min(self._tokenizer.model_max_length, _positions(model.config))

    @torch.inference_mode()
    def translate(self, lines: Sequence[str], settings: SearchSettings) -> list[Translation]:
        """Translates `lines` and keeps their order.

        Raises:
            ConfigurationError: if this engine does not support the settings.
        """
        if problems := settings.problems() or unsupported_by_hugging_face(settings):
            raise ConfigurationError(problems)
        sources = {index: self._read(line.strip()) for index, line in enumerate(lines) if line.strip()}
        wanted = [index for index, (ids, _) in sources.items() if len(ids) > self._special_tokens]
        encoded = [sources[index][0] for index in wanted]
        translations = [EMPTY] * len(lines)
        for batch in self._batches(encoded, settings):
            ids = torch.tensor([encoded[item] for item in batch], device=self._device)  # (B, S)
            if settings.method == "sample":
                text = f"{settings.seed} {ids.tolist()}"
                torch.manual_seed(zlib.crc32(text.encode()) % SEEDS)
            for item, hypotheses in zip(batch, self._generate(ids, settings)):
                translations[wanted[item]] = Translation(tuple(hypotheses), sources[wanted[item]][1])
        return translations

    def _read(self, line: str) -> tuple[list[int], bool]:
        """Returns the ids of a line with all special ids, and whether the line was cut off."""
        ids = self._tokenizer(line)["input_ids"]
        if len(ids) <= self._longest:
            return ids, False
        return self._tokenizer(line, truncation=True, max_length=self._longest)["input_ids"], True

    def _batches(self, encoded: Sequence[list[int]], settings: SearchSettings) -> list[list[int]]:
        if settings.method == "sample":
            return [[item] for item in range(len(encoded))]
        by_length = defaultdict(list)
        for item, ids in enumerate(encoded):
            by_length[len(ids)].append(item)
        batches = []
        for length, items in sorted(by_length.items(), reverse=True):
            lengths = [length * settings.beam_size] * len(items)
            batches += [[items[index] for index in part] for part in batches_by_length(lengths, TOKENS_IN_BATCH)]
        return batches

    def _generate(self, ids: Tensor, settings: SearchSettings) -> list[list[Hypothesis]]:
        """Returns the hypotheses of each source in `ids` (B, S)."""
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            decoder_input_ids=ids.new_tensor([self._prompt] * len(ids)),  # (B, P)
            max_new_tokens=self._limit(ids.shape[1], settings),
            num_return_sequences=settings.n_best,
            output_scores=settings.is_beam_search,
            output_logits=not settings.is_beam_search,
            return_dict_in_generate=True,
            **_search_options(settings),
        )
        generated = output.sequences[:, len(self._prompt) :]  # (B * n_best, T)
        ends = torch.isin(generated, ids.new_tensor(as_list(self._model.generation_config.eos_token_id)))
        lengths = torch.where(ends.any(-1), ends.int().argmax(-1) + 1, generated.shape[1])  # (B * n_best,)
        scores = self._scores(output, lengths, settings)
        texts = self._tokenizer.batch_decode(  # clean-up would remove the space before a French "!"
            generated, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        finished = ends.any(-1).tolist()
        found = [Hypothesis(text.strip(), *rest) for text, *rest in zip(texts, scores, finished)]
        per_line = [found[start : start + settings.n_best] for start in range(0, len(found), settings.n_best)]
        return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) for hypotheses in per_line]

    def _limit(self, source_length: int, settings: SearchSettings) -> int:
        """Returns the maximum number of tokens in a hypothesis, including its end. Always counts 2 special tokens."""
        limit = _positions(self._model.config) + 1 - len(self._prompt)
        if settings.max_delta is None:
            return limit
        return min(limit, source_length - self._special_tokens + 2 + settings.max_delta)

    def _scores(self, output: Any, lengths: Tensor, settings: SearchSettings) -> list[float]:
        """Returns log p(y|x) / lp(|y|) of each hypothesis, given its length |y| in `lengths` (B * n_best,)."""
        if settings.is_beam_search:
            steps = self._model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
        else:  # not the scores, which depend on temperature, top_k and top_p
            steps = self._model.compute_transition_scores(output.sequences, output.logits, normalize_logits=True)
        positions = torch.arange(steps.shape[1], device=steps.device)  # (T,)
        totals = steps.masked_fill(positions >= lengths.unsqueeze(1), 0.0).sum(-1)
        return (totals / settings.penalty(lengths)).tolist()


def _search_options(settings: SearchSettings) -> dict[str, Any]:
    if settings.method == "beam":
        penalty = settings.length_penalty if settings.is_beam_search else 1.0
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
        "epsilon_cutoff": settings.epsilon,
    }


def _prompt(generation_config: Any, language: int | None) -> list[int]:
    """Returns the ids at the start of every hypothesis, which are not part of the translation."""
    start = generation_config.decoder_start_token_id
    start = generation_config.bos_token_id if start is None else start
    forced = generation_config.forced_bos_token_id if language is None else language
    return [start] if forced is None else [start, forced]


def _without_search(generation_config: Any) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(**{key: getattr(generation_config, key, None) for key in VOCABULARY_KEYS})


def _set_languages(tokenizer: Any, source: str | None, target: str | None) -> int | None:
    """Sets the source language of a multilingual tokenizer, and returns the id of the target language token."""
    if not hasattr(tokenizer, "src_lang"):
        return None
    problems = []
    for key, language in (("source_language", source), ("target_language", target)):
        if language is None or _language_id(tokenizer, language) in (None, tokenizer.unk_token_id):
            problems.append(f"{key}={language}: must be one of the codes of the model's tokenizer, such as deu_Latn.")
    if problems:
        raise ConfigurationError(problems)
    tokenizer.src_lang = source
    return _language_id(tokenizer, target)


def _language_id(tokenizer: Any, language: str | None) -> int | None:
    codes = getattr(tokenizer, "lang_code_to_token", {})  # for M2M-100, whose language tokens look like __de__
    return tokenizer.convert_tokens_to_ids(codes.get(language, language))


def _positions(config: Any) -> int:
    return getattr(config, "max_position_embeddings", 0) or getattr(config, "n_positions", 512)


def unsupported_by_hugging_face(settings: SearchSettings) -> list[str]:
    """Returns a sentence for each setting that Hugging Face's search does not support."""
    return settings.power_form_problems("Hugging Face")


def folder_language(path: str | Path) -> str | None:
    """Returns the target language in a folder's `tokenizer_config.json`, as Marian and others store it."""
    file = Path(path) / "tokenizer_config.json"
    try:
        config = read_json(file) or {}
    except DataError:
        return None
    language = config.get("target_lang") or config.get("tgt_lang")
    return language if isinstance(language, str) else None


def folder_problems(path: str | Path) -> list[str]:
    """Returns a sentence if a path is not the folder of a sequence-to-sequence model."""
    config = Path(path) / "config.json"
    if not Path(path).is_dir() or not config.is_file():
        return [f"model names '{path}'; engine=hugging_face needs a folder with config.json, weights and tokenizer."]
    if (Path(path) / ADAPTER).exists():
        return [f"model names '{path}', which holds {ADAPTER}: adapters for another folder's model are not supported."]
    try:
        kind = read_json(config) or {}
    except DataError as error:
        return [f"model: {error}."]
    if kind.get("is_encoder_decoder") is not True:
        return [f"model names '{path}', whose config.json is not of a sequence-to-sequence model."]
    return []
