"""Translates with CTranslate2 from the folder of a Hugging Face model, which is converted first."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine, Source
from nemo_distill.decoding.engine import Hypothesis
from nemo_distill.decoding.hugging_face_engine import HuggingFaceEngine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.storage.records import read_json
from nemo_distill.text.files import as_list
from nemo_distill.text.lines import is_blank

FAMILIES = ("marian", "m2m_100", "mbart", "t5")  # by `model_type`; NLLB is of M2M-100's, MADLAD-400 of T5's


class ConvertedEngine(CTranslate2Engine):
    """An `Engine` that converts the folder of a Hugging Face model to a temporary one of CTranslate2.

    What is said of `CTranslate2Engine` and its search holds here too. Text, languages, forbidden words and length
    limits are those of `HuggingFaceEngine`.

    Args:
        folder: the folder with `config.json`, weights and tokenizer.
        quantization: the type of the weights, such as `float32` or `int8`.
        source_language: as for `HuggingFaceEngine`.
        target_language: likewise.
        options: `device`, `device_index`, `inter_threads`, `intra_threads` and `sentences_in_batch` of
            `CTranslate2Engine`.

    Raises:
        ConfigurationError: if the folder cannot be loaded or converted, or a language is wrong.
    """

    def __init__(
        self,
        folder: str | Path,
        quantization: str = "float32",
        source_language: str | None = None,
        target_language: str | None = None,
        **options: Any,
    ):
        if problems := conversion_problems(folder):
            raise ConfigurationError(problems)
        self._origin = HuggingFaceEngine(folder, "cpu", "float32", source_language, target_language)
        self._temporary = TemporaryDirectory(prefix="nemo_distill_")
        converted, model = Path(self._temporary.name) / "model", self._origin.model
        start, *prefix = map(str, self._origin.prompt)
        _convert(folder, model, _Numbers(model, self._origin.tokenizer), converted, quantization)
        if model.config.model_type != "marian":  # which begins with zeros, whatever the token is
            _set_start(converted, start)
        self._prefix = prefix
        self._target_ids = {str(index): index for index in range(_size(model))}
        model.to("meta")  # the weights are in the converted model
        self._open(converted, **options)

    def _read(self, lines: Sequence[str]) -> list[Source]:
        found = [([], False) if is_blank(line) else self._origin.read(line.strip()) for line in lines]
        least = self._origin.special_tokens
        return [Source(list(map(str, ids)) if len(ids) > least else [], cut) for ids, cut in found]

    def _limit(self, source: Source, settings: SearchSettings) -> int:
        return self._origin.limit(len(source.tokens), settings) + len(self._prefix)

    def _never(self, settings: SearchSettings) -> list[list[str]]:
        config = self._origin.model.generation_config
        words = [[index] for index in self._origin.never(settings)]
        words += [word for word in config.bad_words_ids or () if len(word) > 1]
        return [list(map(str, word)) for word in words if word != [_left_out(self._origin.model)]]

    def _hypothesis(self, tokens: list[str], score: float, settings: SearchSettings) -> Hypothesis:
        ids = [self._target_ids[token] for token in tokens[len(self._prefix) :]]
        if not settings.is_beam_search:
            score /= settings.penalty(len(ids))
        finished = ids[-1] in as_list(self._origin.model.generation_config.eos_token_id)
        return Hypothesis(self._origin.text(ids), score, finished)


def conversion_problems(folder: str | Path) -> list[str]:
    """Returns a sentence if CTranslate2 cannot express the model of a folder; reads nothing but `config.json`."""
    config = read_json(Path(folder) / "config.json") or {}
    if (family := config.get("model_type")) not in FAMILIES:
        return [
            f"model names '{folder}' of the type {family}, but engine=ctranslate2 converts only "
            f"{', '.join(FAMILIES)}; leave engine out."
        ]
    if family == "marian" and config.get("share_encoder_decoder_embeddings") is False:
        reason = "whose sides have vocabularies of their own"
    elif family == "marian" and config.get("pad_token_id") != config.get("vocab_size", 0) - 1:
        reason = "whose padding is not its last token"
    else:
        return []
    return [f"model names '{folder}', {reason}; engine=ctranslate2 does not convert it; leave engine out."]


class _Numbers:
    """In place of a tokenizer, gives each id its number as a name. In a tokenizer, ids may lack a token or share one.

    It has what CTranslate2's converter asks a tokenizer for.
    """

    def __init__(self, model: Any, tokenizer: Any):
        self._names = {str(index): index for index in range(_size(model))}
        if (left_out := _left_out(model)) is not None:
            self._names.pop(str(left_out))
            self._names["<pad>"] = left_out  # the name by which the converter leaves it out
        self.unk_token_id = tokenizer.unk_token_id
        self.bos_token, self.eos_token, self.unk_token, self.pad_token = (
            str(getattr(tokenizer, f"{name}_token_id")) for name in ("bos", "eos", "unk", "pad")
        )
        self.special_tokens_map: dict[str, list[str]] = {}

    def get_vocab(self) -> dict[str, int]:
        return self._names

    def convert_ids_to_tokens(self, index: int) -> str:
        return str(index)


def _size(model: Any) -> int:
    return len(model.get_output_embeddings().weight)


def _left_out(model: Any) -> int | None:
    """Returns the id of Marian's padding, with whose embedding, zeros, a decoder begins; None of other families."""
    return model.config.pad_token_id if model.config.model_type == "marian" else None


def _convert(folder: str | Path, model: Any, numbers: _Numbers, output: Path, quantization: str) -> None:
    """Writes a model of Hugging Face that is loaded already."""
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        def load_model(self, model_class: Any, model_name_or_path: str, **_: Any) -> Any:
            return model

        def load_tokenizer(self, tokenizer_class: Any, model_name_or_path: str, **_: Any) -> Any:
            return numbers

    if model.config.model_type == "mbart":  # a key that the converter reads and newer folders lack
        model.config.normalize_before = True
    Converter(str(folder)).convert(str(output), quantization=quantization)


def _set_start(folder: Path, token: str) -> None:
    """Sets what a decoder reads first, which for some families is the language."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"decoder_start_token": token}))
