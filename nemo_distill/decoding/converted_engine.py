"""Translates with CTranslate2 with the model of a Hugging Face folder, which is converted first."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nemo_distill import __version__
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.decoding.ctranslate2_search import CTranslate2Search, Source, import_ctranslate2, read_record
from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.decoding.hugging_face_text import (
    FolderText,
    language_is_start,
    load_model,
    positions_of,
    read_folder,
    start_id,
)
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export.record import RECORD_NAME, ExportRecord, SpecialIds, TextSide, read_tokens
from nemo_distill.nemo_files.hugging_face_folder import read_files
from nemo_distill.nemo_files.weights import check_weights
from nemo_distill.storage.files import new_folder, user_path, versions
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.records import read_json
from nemo_distill.text.files import as_list
from nemo_distill.text.lines import is_blank

FAMILIES = ("marian", "m2m_100", "mbart", "t5")  # by `model_type`; NLLB is of M2M-100's, MADLAD-400 of T5's
ORIGIN = "origin"  # in a converted folder: what was in the first one besides weights
ACTIVATIONS = (  # that CTranslate2 has, as transformers names them
    "gelu", "gelu_fast", "gelu_new", "gelu_python", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "swish",
)  # fmt: skip
OF_TEXT, WORDS = (".json", ".model", ".spm"), ("merges.txt", "vocab.txt")  # files of configurations and tokenizers
PACKAGES = ("nemo_toolkit", "torch", "ctranslate2", "transformers")


class ConvertedEngine(CTranslate2Search):
    """An `Engine` for a folder that `convert_folder` wrote.

    What is said of `CTranslate2Engine`'s search holds here too. Text, languages, forbidden words and length
    limits are those of `HuggingFaceEngine`. Behind a language, a beam finds no translation without a token, and ranks
    by lengths that count the language. Scores do not count it.

    Args:
        folder: the converted folder.
        source_language: as for `HuggingFaceEngine`.
        target_language: likewise.
        options: `device`, `device_index`, `compute_type`, `inter_threads`, `intra_threads` and `sentences_in_batch` of
            `CTranslate2Engine`.

    Raises:
        ConfigurationError: if the folder cannot be loaded, or a language is wrong.
    """

    def __init__(
        self,
        folder: str | Path,
        source_language: str | None = None,
        target_language: str | None = None,
        **options: Any,
    ):
        folder = user_path(folder)
        side = read_record(folder).target
        self._text = FolderText.of(folder / side.tokenizer, (source_language, target_language), side.pieces)
        self._target_ids = {name: int(name) for name in read_tokens(folder, "target")}
        prompt = list(map(str, self._text.prompt))
        self._written = len(prompt) - 1  # CTranslate2 writes what is behind the start
        self._ends = list(map(str, as_list(self._text.generation_config.eos_token_id)))
        self._prefix = prompt if language_is_start(self._text.tokenizer) else prompt[1:]
        self._open(folder, **options)

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        quantization: str = "float32",
        source_language: str | None = None,
        target_language: str | None = None,
        **options: Any,
    ) -> "ConvertedEngine":
        """Converts a Hugging Face model to a temporary folder, which is deleted with the engine.

        Args:
            folder: the folder with `config.json`, weights and tokenizer.
            quantization: the type of the weights, such as `float32` or `int8`.
            source_language: as for the constructor.
            target_language: likewise.
            options: likewise.
        """
        temporary = TemporaryDirectory(prefix="nemo_distill_")
        converted = Path(temporary.name) / "model"
        convert_folder(folder, converted, quantization)
        engine = cls(converted, source_language, target_language, **options)
        engine._temporary = temporary
        return engine

    def _read(self, lines: Sequence[str]) -> list[Source]:
        found = [([], False) if is_blank(line) else self._text.read(line.strip()) for line in lines]
        least = self._text.special_tokens
        return [Source(list(map(str, ids)) if len(ids) > least else [], cut) for ids, cut in found]

    def _limit(self, source: Source, settings: SearchSettings) -> int:
        return self._text.limit(len(source.tokens), settings) + self._written

    def _never(self, settings: SearchSettings) -> list[list[str]]:
        words = [*([index] for index in self._text.never(settings)), *self._text.forbidden_sequences]
        named = [list(map(str, word)) for word in words]
        return [word for word in named if self._target_ids.keys() >= set(word)]

    def _hypothesis(self, tokens: list[str], score: float, settings: SearchSettings) -> Hypothesis:
        ids = [self._target_ids[token] for token in tokens[self._written :]]
        if settings.is_beam_search:  # CTranslate2 divides by a length that counts the language
            score *= settings.penalty(len(tokens)) / settings.penalty(len(ids))
        else:
            score /= settings.penalty(len(ids))
        finished = tokens[-1] in self._ends
        return Hypothesis(self._text.text(ids), score, finished)


def is_converted(folder: str | Path) -> bool:
    """True if a folder is one that `convert_folder` wrote."""
    return (Path(folder) / RECORD_NAME).is_file() and ExportRecord.read(Path(folder)).is_of_hugging_face


def conversion_problems(folder: str | Path) -> list[str]:
    """Returns a sentence if CTranslate2 cannot express the model of a folder; reads nothing but `config.json`."""
    config = read_json(Path(folder) / "config.json") or {}
    if (family := config.get("model_type")) not in FAMILIES:
        return [
            f"model names '{folder}', which is of the type {family}; CTranslate2 is given only those of "
            f"{', '.join(FAMILIES)}."
        ]
    activation = config.get("dense_act_fn" if family == "t5" else "activation_function")
    if activation and activation not in ACTIVATIONS:
        reason = f"whose activation is {activation}"
    elif family == "marian" and config.get("share_encoder_decoder_embeddings") is False:
        reason = "whose sides have vocabularies of their own"
    elif family == "marian" and config.get("pad_token_id") != config.get("vocab_size", 0) - 1:
        reason = "whose padding is not its last token"
    else:
        return []
    return [f"model names '{folder}', {reason}; CTranslate2 cannot express it."]


def convert_folder(folder: str | Path, output: Path, quantization: str) -> None:
    """Converts the model of a Hugging Face folder to CTranslate2. The new folder appears whole or not at all.

    Args:
        folder: the folder with `config.json`, weights and tokenizer.
        output: the folder to write; an earlier one is replaced.
        quantization: the type of the weights, such as `float32` or `int8`.

    Raises:
        ConfigurationError: if the model cannot be loaded or converted.
        NotFiniteError: if weights are NaN or infinite, of which int8 would make numbers.
    """
    folder = user_path(folder)
    if problems := conversion_problems(folder):
        raise ConfigurationError(problems)
    import_ctranslate2()
    from ctranslate2.converters import TransformersConverter

    tokenizer, *_ = read_folder(folder, (None, None))
    model = load_model(folder)
    check_weights(model, f"'{folder}' is not used: it")
    names = _Numbers(model, tokenizer)
    converter = TransformersConverter(str(folder))
    converter.load_model = lambda *_, **__: model
    converter.load_tokenizer = lambda *_, **__: names
    if model.config.model_type == "mbart":  # a key that the converter reads and newer folders lack
        model.config.normalize_before = True
    with new_folder(output) as made:
        try:
            converter.convert(str(made), quantization=quantization, force=True)
        except Exception as error:  # for what it cannot express, it raises many types of errors
            raise ConfigurationError([f"'{folder}' cannot be converted by ctranslate2: {error!r}."]) from error
        if model.config.model_type != "marian":  # which begins with zeros, whatever the token is
            _set_start(made, None if language_is_start(tokenizer) else names.start)
        (made / ORIGIN).mkdir()
        for file in read_files(folder):
            if file.suffix in OF_TEXT or file.name in WORDS:
                shutil.copy(file, made / ORIGIN)
        pieces, positions = len(names.get_vocab()), positions_of(model.config)
        side = TextSide(ORIGIN, "hugging_face", None, pieces, names.special_ids, positions)
        ExportRecord(
            folder.name, fingerprint(folder)["sha256"], "ctranslate2", quantization, {}, side, side,
            {"nemo_distill": __version__, **versions(PACKAGES)},
        ).write(made)  # fmt: skip


class _Numbers:
    """In place of a tokenizer, gives each id its number as a name. In a tokenizer, ids may lack a token or share one.

    It has what CTranslate2's converter asks a tokenizer for.
    """

    def __init__(self, model: Any, tokenizer: Any):
        config = model.generation_config
        size, padding = len(model.get_output_embeddings().weight), config.pad_token_id
        self._names = {str(index): index for index in range(size)}
        if model.config.model_type == "marian":  # whose padding, with an embedding of zeros, is only what comes first
            self._names.pop(str(padding))
            self._names["<pad>"] = padding  # the name by which the converter leaves it out
        start, (end, *_) = start_id(config), as_list(config.eos_token_id)
        unknown = end if tokenizer.unk_token_id is None else tokenizer.unk_token_id  # our own exports have none
        self.unk_token_id = unknown
        self.special_ids: SpecialIds = {"pad": padding, "unk": unknown, "bos": start, "eos": end}
        self.start = self.bos_token = str(start)
        self.eos_token, self.unk_token, self.pad_token = str(end), str(unknown), str(padding)
        self.special_tokens_map: dict[str, list[str]] = {}

    def get_vocab(self) -> dict[str, int]:
        return self._names

    def convert_ids_to_tokens(self, index: int) -> str:
        return str(index)


def _set_start(folder: Path, token: str | None) -> None:
    """Sets what a decoder reads first; None: the first token of a prefix."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"decoder_start_token": token}))
