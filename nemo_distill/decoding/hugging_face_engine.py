"""Translates with sequence-to-sequence models of Hugging Face: Marian and OPUS-MT, NLLB, M2M-100, mBART, T5."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemo_distill.config.errors import ConfigurationError, DataError, NotFiniteError
from nemo_distill.decoding.asked_languages import Direction, folder_direction
from nemo_distill.decoding.engine import EMPTY, OVERFLOW, Hypothesis, Translation, batches_by_length, sample_seed
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export.record import RECORD_NAME
from nemo_distill.nemo_files.hugging_face_folder import ADAPTER, LOCAL_ONLY, unsafe_reasons
from nemo_distill.nemo_files.saved_arrays import only_allowed
from nemo_distill.storage.records import read_json
from nemo_distill.text.files import as_list
from nemo_distill.text.lines import is_blank

TOKENS_IN_BATCH = 4096
# The keys of a generation config that depend on the vocabulary. `SearchSettings` replaces the other keys.
VOCABULARY_KEYS = """
bos_token_id eos_token_id pad_token_id decoder_start_token_id bad_words_ids suppress_tokens begin_suppress_tokens
""".split()


class FolderText:
    """How a folder's model reads and writes text: its tokens and languages, what it never writes, how much at most.

    Args:
        folder: the folder.
        tokenizer: its tokenizer.
        direction: what the model must read to know its languages.
        config: the model's.
        generation_config: likewise.
        size: the number of ids that the model can generate.
    """

    def __init__(
        self, folder: str | Path, tokenizer: Any, direction: Direction, config: Any, generation_config: Any, size: int
    ):
        self.tokenizer, self._before = tokenizer, direction.before
        self.prompt = prompt(generation_config, tokenizer, direction)
        self.generation_config = _without_search(generation_config)
        # transformers puts the start before a prompt with another one, and mBART's prompt begins with the language.
        self.generation_config.decoder_start_token_id = self.prompt[0]
        self.special_tokens = tokenizer.num_special_tokens_to_add()
        self._unknown = _unknown_ids(tokenizer, size)
        if (Path(folder) / RECORD_NAME).is_file():  # our own export: the tokenizer names no unknown word
            self._unknown |= set(self.generation_config.suppress_tokens or ())
        self._positions = positions_of(config)
        self._longest = min(tokenizer.model_max_length, self._positions)

    @classmethod
    def of(cls, folder: str | Path, languages: Sequence[str | None], size: int) -> "FolderText":
        """Returns that of a folder, which needs no weights.

        Raises:
            ConfigurationError: if the folder cannot be loaded, or a language is wrong.
        """
        tokenizer, direction, problems = read_folder(folder, languages)
        if problems:
            raise ConfigurationError(problems)
        from transformers import AutoConfig, GenerationConfig

        config = AutoConfig.from_pretrained(folder, **LOCAL_ONLY)
        has_own = (Path(folder) / "generation_config.json").is_file()
        own = GenerationConfig.from_pretrained(folder) if has_own else GenerationConfig.from_model_config(config)
        if direction.source:
            tokenizer.src_lang = direction.source
        return cls(folder, tokenizer, direction, config, own, size)

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of a translation's ids, without special ones."""
        # Clean-up would remove the space before a French "!".
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()

    def read(self, line: str) -> tuple[list[int], bool]:
        """Returns the ids of a line with all special ids, and whether the line was cut off."""
        line = self._before + line
        ids = self.tokenizer(line)["input_ids"]
        if len(ids) <= self._longest:
            return ids, False
        return self.tokenizer(line, truncation=True, max_length=self._longest)["input_ids"], True

    def never(self, settings: SearchSettings) -> list[int]:
        """Returns the ids that are not generated: padding, what the model forbids, unknown words if not allowed."""
        config = self.generation_config
        words = [ids[0] for ids in config.bad_words_ids or () if len(ids) == 1]
        never = {*(config.suppress_tokens or ()), *words}
        never = never - self._unknown if settings.allow_unknown else never | self._unknown
        never.add(config.pad_token_id)
        kept = {None, *as_list(config.eos_token_id)} - set(config.suppress_tokens or ())
        return sorted(never - kept)

    def limit(self, source_length: int, settings: SearchSettings) -> int:
        """Returns the maximum number of tokens in a hypothesis, including its end. Always counts 2 special tokens."""
        limit = self._positions + 1 - len(self.prompt)
        if settings.max_delta is None:
            return limit
        return min(limit, source_length - self.special_tokens + 2 + settings.max_delta)


class HuggingFaceEngine(FolderText):
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
        source_language: only for models that are told it: NLLB, M2M-100, mBART and T5.
        target_language: only for these, OPUS-MT models with several targets, and MADLAD-400. `ignore`: the lines have
            the tag of OPUS-MT, or the words of T5, themselves.

    Raises:
        ConfigurationError: if a language is missing, unknown to the model, or not to be chosen.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str = "cpu",
        dtype: str = "float32",
        source_language: str | None = None,
        target_language: str | None = None,
    ):
        model, tokenizer, direction = open_folder(folder, (source_language, target_language), dtype)
        size = len(model.get_output_embeddings().weight)
        super().__init__(folder, tokenizer, direction, model.config, model.generation_config, size)
        model.generation_config = self.generation_config
        model.config.vocab_size = size  # Marian's may be the source's, and the scores of target words are found by it
        self.model = model.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def translate(self, lines: Sequence[str], settings: SearchSettings) -> list[Translation]:
        """Translates `lines` and keeps their order.

        Raises:
            ConfigurationError: if this engine does not support the settings.
        """
        if problems := settings.problems() or unsupported_by_hugging_face(settings):
            raise ConfigurationError(problems)
        sources = {index: self.read(line.strip()) for index, line in enumerate(lines) if not is_blank(line)}
        wanted = [index for index, (ids, _) in sources.items() if len(ids) > self.special_tokens]
        encoded = [sources[index][0] for index in wanted]
        translations = [EMPTY] * len(lines)
        for batch in self._batches(encoded, settings):
            ids = torch.tensor([encoded[item] for item in batch], device=self._device)  # (B, S)
            if settings.method == "sample":
                torch.manual_seed(sample_seed(settings.seed, ids.tolist()))
            for item, hypotheses in zip(batch, self._generate(ids, settings)):
                translations[wanted[item]] = Translation(tuple(hypotheses), sources[wanted[item]][1])
        return translations

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
        config = self.model.generation_config
        output = self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            decoder_input_ids=ids.new_tensor([self.prompt] * len(ids)),  # (B, P)
            max_new_tokens=self.limit(ids.shape[1], settings),
            num_return_sequences=settings.n_best,
            output_scores=settings.is_beam_search,
            output_logits=not settings.is_beam_search,
            return_dict_in_generate=True,
            suppress_tokens=self.never(settings) or None,
            bad_words_ids=[word for word in config.bad_words_ids or () if len(word) > 1] or None,
            renormalize_logits=True,
            logits_processor=[_checked] if settings.method == "sample" else None,
            **_search_options(settings),
        )
        generated = output.sequences[:, len(self.prompt) :]  # (B * n_best, T)
        ends = torch.isin(generated, ids.new_tensor(as_list(config.eos_token_id)))
        lengths = torch.where(ends.any(-1), ends.int().argmax(-1) + 1, generated.shape[1])  # (B * n_best,)
        scores = self._scores(output, lengths, settings)
        texts = self.tokenizer.batch_decode(  # clean-up would remove the space before a French "!"
            generated, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        finished = ends.any(-1).tolist()
        found = [Hypothesis(text.strip(), *rest) for text, *rest in zip(texts, scores, finished)]
        per_line = [found[start : start + settings.n_best] for start in range(0, len(found), settings.n_best)]
        return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) for hypotheses in per_line]

    def _scores(self, output: Any, lengths: Tensor, settings: SearchSettings) -> list[float]:
        """Returns log p(y|x) / lp(|y|) of each hypothesis, given its length |y| in `lengths` (B * n_best,)."""
        if settings.is_beam_search:
            steps = self.model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
        else:  # not the scores, which depend on temperature, top_k and top_p
            never = torch.tensor(self.never(settings), dtype=torch.long, device=self.model.device)
            logits = tuple(step.index_fill(-1, never, -torch.inf) for step in output.logits)
            steps = self.model.compute_transition_scores(output.sequences, logits, normalize_logits=True)
        positions = torch.arange(steps.shape[1], device=steps.device)  # (T,)
        totals = steps.masked_fill(positions >= lengths.unsqueeze(1), 0.0).sum(-1)
        return (totals / settings.penalty(lengths)).tolist()


def _checked(ids: Tensor, logits: Tensor) -> Tensor:
    """Returns logits (B, V) from which tokens can be drawn. torch ends with an error of its own where they are NaN."""
    if not logits.amax(-1).isfinite().all():
        raise NotFiniteError(OVERFLOW)
    return logits


def _search_options(settings: SearchSettings) -> dict[str, Any]:
    if settings.method == "beam":
        penalty = settings.length_penalty if settings.is_beam_search else 1.0
        beam = {"num_beams": settings.beam_size, "length_penalty": penalty, "early_stopping": False}
        return {"do_sample": False, **beam}
    return {
        "do_sample": True,
        "num_beams": 1,
        "top_k": settings.top_k,
        "top_p": settings.top_p,
        "temperature": settings.temperature,
        "epsilon_cutoff": settings.epsilon,
    }


def prompt(config: Any, tokenizer: Any, direction: Direction) -> list[int]:
    """Returns the ids at the start of every hypothesis, which are not part of the translation.

    Args:
        config: the model's own generation config.
        tokenizer: its tokenizer.
        direction: the languages, of which the target may be such an id.
    """
    if direction.target is None:
        forced = config.forced_bos_token_id
    else:
        forced = tokenizer.convert_tokens_to_ids(direction.target)
        if language_is_start(tokenizer):
            return [forced]
    start = start_id(config)
    return [start] if forced is None else [start, forced]


def start_id(config: Any) -> int:
    """Returns the id that a decoder reads first, by the generation config of its model."""
    return config.bos_token_id if config.decoder_start_token_id is None else config.decoder_start_token_id


def language_is_start(tokenizer: Any) -> bool:
    """True if a translation begins with its language and nothing before it: mBART's, not mBART-50's."""
    return type(tokenizer).__name__.startswith("MBartTokenizer")


def _unknown_ids(tokenizer: Any, size: int) -> set[int]:
    """Returns the ids below `size` of unknown target words: the tokenizer's own, and those without a token."""
    if getattr(tokenizer, "separate_vocabs", False):  # Marian's, which says of itself only what the sources are
        known = tokenizer.target_encoder
        return {known[tokenizer.unk_token]} | set(range(size)) - set(known.values())
    return {tokenizer.unk_token_id} | {
        index
        for index in set(range(size)) - set(tokenizer.get_vocab().values())
        if _token(tokenizer, index) in (None, tokenizer.unk_token)
    }


def _token(tokenizer: Any, index: int) -> str | None:
    try:
        return tokenizer.convert_ids_to_tokens(index)
    except IndexError:  # sentencepiece's, for ids that it does not have
        return None


def _without_search(generation_config: Any) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(**{key: getattr(generation_config, key, None) for key in VOCABULARY_KEYS})


def positions_of(config: Any) -> int:
    """Returns how many tokens a model of a config reads at most."""
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


def folder_problems(path: str | Path, languages: Sequence[str | None] = (None, None)) -> list[str]:
    """Returns a sentence for each reason why an engine would not load a folder, without loading the model.

    Args:
        path: the folder.
        languages: the source and target language that are asked for.
    """
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
    try:
        return read_folder(path, languages)[2]
    except ConfigurationError as error:
        return error.problems


def open_folder(
    folder: str | Path, languages: Sequence[str | None], dtype: str = "float32", fast: bool = True
) -> tuple[Any, Any, Direction]:
    """Returns the model, its tokenizer set to the source language, and what it must read to know its languages.

    Raises:
        ConfigurationError: if the folder cannot be loaded, or a language is wrong.
    """
    tokenizer, direction, problems = read_folder(folder, languages, fast)
    if problems:
        raise ConfigurationError(problems)
    model = load_model(folder, dtype)
    if direction.source:
        tokenizer.src_lang = direction.source
    return model, tokenizer, direction


def load_model(folder: str | Path, dtype: str = "float32") -> Any:
    """Returns the model of a folder that `read_folder` has found safe to open.

    Raises:
        ConfigurationError: if it cannot be loaded.
    """
    from transformers import AutoModelForSeq2SeqLM

    try:
        with only_allowed():
            return AutoModelForSeq2SeqLM.from_pretrained(folder, torch_dtype=getattr(torch, dtype), **LOCAL_ONLY)
    except Exception as error:  # transformers raises many types of errors for damaged files or required code
        raise ConfigurationError([_not_loaded(folder, error)]) from error


def read_folder(
    folder: str | Path, languages: Sequence[str | None], fast: bool = True
) -> tuple[Any, Direction, list[str]]:
    """Returns the tokenizer, what the model must read to know its languages, and a sentence for each problem.

    Args:
        folder: the folder.
        languages: the source and target language that are asked for.
        fast: read `tokenizer.json` if there is one; otherwise, or without one, SentencePiece files.

    Raises:
        ConfigurationError: if the folder is not safe to open, or cannot be loaded.
    """
    if reasons := unsafe_reasons(folder):
        raise ConfigurationError([f"model: {reason}" for reason in reasons])
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            # Transformers makes a tokenizer.json of SentencePiece's files only with a protobuf newer than NeMo allows.
            folder, use_fast=fast and (Path(folder) / "tokenizer.json").is_file(), **LOCAL_ONLY
        )  # fmt: skip
    except Exception as error:  # transformers raises many types of errors for damaged files or required code
        is_missing = isinstance(error, TypeError) and "NoneType" in str(error)  # of a path
        said = "a file of its tokenizer is missing, such as tokenizer_config.json or vocab.json"
        raise ConfigurationError([_not_loaded(folder, said if is_missing else error)]) from error
    if tokenizer is False:  # of SentencePiece, without its file
        raise ConfigurationError([_not_loaded(folder, "the tokenizer's files are missing")])
    config = read_json(Path(folder) / "config.json") or {}
    return tokenizer, *folder_direction(tokenizer, config, languages)


def _not_loaded(folder: str | Path, error: Exception | str) -> str:
    from transformers import __version__

    written = (read_json(Path(folder) / "config.json") or {}).get("transformers_version", __version__)
    other = "" if written == __version__ else f" (written by transformers {written}; this is {__version__})"
    return f"model: '{folder}'{other} cannot be loaded: {' '.join(str(error).split())}"
