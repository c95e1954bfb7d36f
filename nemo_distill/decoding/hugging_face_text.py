"""How sequence-to-sequence models of Hugging Face read and write text, and what opens their folders."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.decoding.asked_languages import Direction, folder_direction, language_tags, language_tokens
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export.record import RECORD_NAME
from nemo_distill.nemo_files.hugging_face_folder import ADAPTER, LOCAL_ONLY, unsafe_reasons
from nemo_distill.nemo_files.saved_arrays import only_allowed
from nemo_distill.storage.records import read_json
from nemo_distill.text.files import as_list

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
        added = _added_tokens(tokenizer)
        if (Path(folder) / RECORD_NAME).is_file():  # our own export: the tokenizer names no unknown word
            self._unknown |= set(self.generation_config.suppress_tokens or ())
            # Its special tokens are those of both sides, of which it has a role for one.
            added -= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        # Otherwise a tokenizer takes the `</s>` of HTML for the end of a sentence, and a locale for mBART's language.
        self._reading = {"split_special_tokens": not added}
        self._positions = positions_of(config)
        self._longest = min(tokenizer.model_max_length, self._positions)

    @classmethod
    def of(cls, folder: str | Path, languages: Sequence[str | None], size: int) -> "FolderText":
        """Returns that of a folder, which needs no weights.

        Raises:
            ConfigurationError: if the folder cannot be loaded, or a language is wrong.
        """
        tokenizer, direction = _open_tokenizer(folder, languages)
        from transformers import AutoConfig, GenerationConfig

        has_own = (Path(folder) / "generation_config.json").is_file()
        try:
            config = AutoConfig.from_pretrained(folder, **LOCAL_ONLY)
            own = GenerationConfig.from_pretrained(folder) if has_own else GenerationConfig.from_model_config(config)
        except (OSError, ValueError) as error:
            raise ConfigurationError([_not_loaded(folder, error)]) from error
        return cls(folder, tokenizer, direction, config, own, size)

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of a translation's ids, without special ones."""
        # Clean-up would remove the space before a French "!".
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()

    def read(self, line: str) -> tuple[list[int], bool]:
        """Returns the ids of a line with all special ids, and whether the line was cut off."""
        line = self._before + line
        ids = self.tokenizer(line, **self._reading)["input_ids"]
        if len(ids) <= self._longest:
            return ids, False
        return self.tokenizer(line, truncation=True, max_length=self._longest, **self._reading)["input_ids"], True

    @property
    def forbidden_sequences(self) -> list[list[int]]:
        """What the model forbids that has more than one id."""
        return [word for word in self.generation_config.bad_words_ids or () if len(word) > 1]

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


def _added_tokens(tokenizer: Any) -> set[str]:
    """Returns the tokens that somebody has added to stand in text, such as placeholders, and not for a role."""
    roles = {token for token in tokenizer.special_tokens_map.values() if isinstance(token, str)}
    added = set(tokenizer.get_added_vocab()) - roles - set(language_tokens(tokenizer).values())
    return {token for token in added if not token.startswith("<extra_id_")}  # T5's, of its first training alone


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
    tokenizer, direction = _open_tokenizer(folder, languages, fast)
    return load_model(folder, dtype), tokenizer, direction


def _open_tokenizer(folder: str | Path, languages: Sequence[str | None], fast: bool = True) -> tuple[Any, Direction]:
    tokenizer, direction, problems = read_folder(folder, languages, fast)
    if problems:
        raise ConfigurationError(problems)
    if direction.source:
        tokenizer.src_lang = direction.source
    return tokenizer, direction


def load_model(folder: str | Path, dtype: str = "float32") -> Any:
    """Returns the model of a folder that `read_folder` has found safe to open.

    Raises:
        ConfigurationError: if it cannot be loaded, or lacks weights.
    """
    from transformers import AutoModelForSeq2SeqLM

    options = {"torch_dtype": getattr(torch, dtype), "output_loading_info": True, **LOCAL_ONLY}
    try:
        with only_allowed():
            model, info = AutoModelForSeq2SeqLM.from_pretrained(folder, **options)
    except Exception as error:  # transformers raises many types of errors for damaged files or required code
        raise ConfigurationError([_not_loaded(folder, error)]) from error
    missing = set(info["missing_keys"])  # a bias of zeros or positions of sines may be among them
    lacking = [name for name, weight in model.named_parameters() if name in missing and weight.requires_grad]
    if lacking:
        said = f"its files have no weights under the names of {len(lacking)} tensors, such as '{lacking[0]}'"
        raise ConfigurationError([_not_loaded(folder, f"{said}; transformers would draw them at random")])
    return model


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
    if hasattr(tokenizer, "language_code_re"):  # Marian's, which takes all between any `>>` and `<<` for a tag
        tags = "|".join(map(re.escape, language_tags(tokenizer).values()))
        tokenizer.language_code_re = re.compile(rf"\A(?:{tags or '(?!)'})")
    config = read_json(Path(folder) / "config.json") or {}
    return tokenizer, *folder_direction(tokenizer, config, languages)


def _not_loaded(folder: str | Path, error: Exception | str) -> str:
    from transformers import __version__

    written = (read_json(Path(folder) / "config.json") or {}).get("transformers_version", __version__)
    other = "" if written == __version__ else f" (written by transformers {written}; this is {__version__})"
    return f"model: '{folder}'{other} cannot be loaded: {' '.join(str(error).split())}"
