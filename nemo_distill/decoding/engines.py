"""Loads the engine that a config names."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import AfterValidator, Field

from nemo_distill.config.section import Allowed, rule, section
from nemo_distill.decoding.asked_languages import nemo_languages, not_asked_for
from nemo_distill.decoding.converted_engine import ORIGIN, ConvertedEngine, conversion_problems, is_converted
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.decoding.ctranslate2_search import unsupported_by_ctranslate2
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.hugging_face_engine import HuggingFaceEngine, unsupported_by_hugging_face
from nemo_distill.decoding.hugging_face_text import folder_language, folder_problems
from nemo_distill.decoding.settings import AskedSearch, SearchSettings
from nemo_distill.export.record import RECORD_NAME, ExportRecord
from nemo_distill.export.settings import QUANTIZATIONS, missing_package
from nemo_distill.export.supported import unsupported
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import SIDES, config_width, reading_differences
from nemo_distill.nemo_files.translation_archive import archived_vocabulary, readable_tokenizers, translation_archive
from nemo_distill.storage.files import user_path
from nemo_distill.storage.records import read_json
from nemo_distill.text.files import as_list
from nemo_distill.text.languages import NO_LANGUAGE
from nemo_distill.trainer.precision import AUTO, chosen_dtype, warn_of_emulation

EngineName = Literal["nemo_distill", "ctranslate2", "nemo", "hugging_face"]
ENGINES = get_args(EngineName)
DTYPES = ("float32", "float16", "bfloat16", AUTO)  # of all engines but CTranslate2


# Of a configuration: what an engine loads.
ModelFiles = Annotated[str | Annotated[list[str], Field(min_length=1)], Allowed("a path, or a list of paths")]


@section
class ModelSection:
    """What translates: a model, or several whose distributions are averaged."""

    model: ModelFiles = Field(kw_only=True)
    """A `.nemo`; several, `[a.nemo,b.nemo]`, are averaged. Or the folder of a Hugging Face model or of an export."""
    dtype: str | None = None
    """Of the weights: `float32`, `float16`, `bfloat16`; of `ctranslate2` also `int8` and others. `auto`: `bfloat16`
    where the device computes it faster and the model is wide enough, as with `trainer.precision=auto`. null:
    `float32`, or what was exported."""
    weights: list[Annotated[float, Field(gt=0)]] | None = None
    """Of several models, the share of each in the average; null: equal shares."""
    source_language: str | None = None
    """Of a multilingual model, by any of its codes: `de`, `deu`, `deu_Latn`."""
    target_language: str | None = None
    """Of a multilingual model; `ignore`: the lines have the tag of OPUS-MT, or the words of T5, themselves."""

    @property
    def paths(self) -> list[str]:
        """The paths that `model` names."""
        return [str(user_path(path)) for path in as_list(self.model)]

    @property
    def languages(self) -> tuple[str | None, str | None]:
        """The source and the target language."""
        return self.source_language, self.target_language

    @rule
    def share_problems(self) -> list[str]:
        """Returns a sentence if not each of several models has a share."""
        models = len(as_list(self.model))
        if self.weights is None or len(self.weights) == models:
            return []
        return [f"weights={self.weights}: must be null or a number above 0 for each of the {models} models."]


@section
class SearchingSection(ModelSection):
    """A model, and how it is searched for translations."""

    engine: str | None = None
    """What searches; null: chosen by the kind of file or folder."""
    search: AskedSearch = Field(default_factory=AskedSearch)
    """How to search."""

    @property
    def engine_name(self) -> str:
        """The engine, which the kind of model tells if none is named."""
        return engine_of(self.paths[0], self.engine)

    @property
    def default_engine(self) -> str:
        """The engine; with `auto`, the one that the others are compared with."""
        return engine_of(self.paths[0]) if self.engine_name == AUTO else self.engine_name

    @property
    def searched(self) -> SearchSettings:
        """How to search, with the form of the length penalty that the engine knows."""
        return self.search.of(self.default_engine)

    @rule
    def search_problems(self) -> list[str]:
        """Returns a sentence for each setting that the engine cannot follow."""
        return search_problems(self.default_engine, self.search)


def engine_of(path: str | Path, asked: str | None = None) -> str:
    """Returns the engine that translates with a model: the one asked for, or else that of the kind of file or folder.

    An export leaves no choice to `auto`.

    Args:
        path: the model, or the first of several.
        asked: one of `ENGINES`, `auto` or None.
    """
    if asked not in (None, AUTO):
        return str(asked)
    path = Path(path)
    if (path / RECORD_NAME).is_file() and not (path / "tokenizer_config.json").is_file():
        return "ctranslate2"  # the other export is for Hugging Face
    return asked or ("hugging_face" if path.is_dir() else "nemo_distill")


def is_folder_of_hugging_face(path: str | Path) -> bool:
    """True if a model is a folder that transformers reads."""
    return engine_of(path) == "hugging_face" and (Path(path) / "config.json").is_file()


def engine_problems(
    name: str,
    paths: Sequence[str | Path],
    dtype: str | None = None,
    source_language: str | None = None,
    target_language: str | None = None,
) -> list[str]:
    """Returns the reasons why `load_engine` would fail, one sentence each, without loading the models.

    Args:
        name: one of `ENGINES`, or `auto`.
        paths: the models.
        dtype: of the weights.
        source_language: only for multilingual models.
        target_language: only for multilingual models.
    """
    languages = (source_language, target_language)
    problems = [f"model names '{path}', which does not exist." for path in paths if not os.path.exists(path)]
    if name not in (*ENGINES, AUTO):
        return [f"engine={name}: must be one of {', '.join(ENGINES)}.", *problems]
    if name == AUTO and dtype is not None:
        problems.append(f"dtype={dtype}: has no effect with engine=auto, which chooses it; leave it out.")
    if name == AUTO and is_folder_of_hugging_face(paths[0]):
        name = "hugging_face"
    if len(paths) != 1 and name not in ("nemo_distill", AUTO):
        problems.append(f"model names {len(paths)} files, but engine={name} supports only one.")
    dtypes = QUANTIZATIONS if name == "ctranslate2" else DTYPES
    if dtype is not None and dtype not in dtypes:
        problems.append(f"dtype={dtype}: must be null or one of {', '.join(dtypes)}.")
    if name == "hugging_face":
        problems += [problem for path in paths if os.path.exists(path) for problem in folder_problems(path, languages)]
    elif name == "ctranslate2" and not find_spec("ctranslate2"):
        problems.append(missing_package("ctranslate2"))
    elif name == "ctranslate2" and len(paths) == 1 and is_folder_of_hugging_face(paths[0]):
        problems += folder_problems(paths[0], languages) or conversion_problems(paths[0])
    else:
        for path in filter(os.path.exists, paths):
            problems += _file_problems(name, Path(path), languages)
        if not problems and len(paths) > 1:
            problems += _different_texts(paths)
    return problems


def _different_texts(paths: Sequence[str | Path]) -> list[str]:
    """Returns a sentence for each way in which a model reads or writes text unlike the first model."""
    try:
        archives = [NemoArchive(path) for path in paths]
        vocabularies = [[archived_vocabulary(archive, side) for side in SIDES] for archive in archives]
    except ValueError as error:
        return [f"model: {error}."]
    problems = []
    for path, archive, theirs in list(zip(paths, archives, vocabularies))[1:]:
        problems += [
            f"model names '{path}', whose {side} vocabulary differs from that of '{paths[0]}'."
            for side, own, first in zip(SIDES, theirs, vocabularies[0])
            if own != first
        ]
        problems += [
            f"model names '{path}', which has {key}={own}, but '{paths[0]}' has {key}={first}; they must be the same."
            for key, own, first in reading_differences(archive.config, archives[0].config)
        ]
    return problems


def _file_problems(name: str, path: Path, languages: Sequence[str | None]) -> list[str]:
    try:
        if not path.is_dir():
            config = readable_tokenizers(translation_archive(path)).config
            missing = unsupported(config, name) if name == "ctranslate2" else ()
            return [*nemo_languages(config, languages)[1], *(f"model: '{path}' has {one}" for one in missing)]
        if name == "ctranslate2":
            record = ExportRecord.read(path)
            if record.is_of_hugging_face:
                return folder_problems(path / record.source.tokenizer, languages)
            return not_asked_for(languages, "an exported model")
    except ValueError as error:
        return [f"model: {error}."]
    readers = {RECORD_NAME: "an export: engine=ctranslate2", "config.json": "of Hugging Face: engine=hugging_face"}
    known = next(
        (f" It seems to be {reader} reads it." for file, reader in readers.items() if (path / file).is_file()), ""
    )
    return [f"model names '{path}', a folder, but engine={name} needs a .nemo.{known}"]


def _found_device(device: str) -> str:
    if device == "cpu":
        return device
    if not torch.cuda.is_available():
        raise ValueError("torch finds no GPU here")
    count = torch.cuda.device_count()
    if (torch.device(device).index or 0) >= count:
        raise ValueError(f"torch finds {count} GPU{'s' if count > 1 else ''} here, numbered from 0")
    return device


Device = Annotated[
    str,
    Field(pattern=r"^(cpu|cuda(:\d+)?)$"),
    AfterValidator(_found_device),
    Allowed("cpu, cuda, or one GPU such as cuda:1"),
]


def model_languages(
    path: str | Path, source_language: str | None = None, target_language: str | None = None
) -> list[str | None]:
    """Returns the source and target languages for which a model's engine tokenizes raw text; None: no tokenization.

    Args:
        path: the model, or the first of several.
        source_language: the source language of a multilingual model.
        target_language: the target language of a multilingual model.
    """
    if is_folder_of_hugging_face(path):
        return [None, None]
    if Path(path).is_dir():
        record = ExportRecord.read(Path(path))
        languages: tuple[str | None, ...] = (record.source.language, record.target.language)
    else:
        languages = nemo_languages(NemoArchive(path).config, (source_language, target_language))[0]
    return [None if language == "ignore" else language for language in languages]


def written_language(path: str | Path, target_language: str | None = None) -> str | None:
    """Returns the target language according to the model, in its own code; None if the model does not say.

    Args:
        path: the model, or the first of several.
        target_language: the target language of a multilingual model.
    """
    folder = Path(path) / ORIGIN if is_converted(path) else Path(path)
    if is_folder_of_hugging_face(folder):
        return folder_language(folder) if target_language in (None, NO_LANGUAGE) else target_language
    return model_languages(path, None, target_language)[1]


def search_problems(name: str, settings: SearchSettings) -> list[str]:
    """Returns a sentence for each setting that an engine does not support."""
    if name == "ctranslate2":
        return [f"search.{problem}" for problem in unsupported_by_ctranslate2(settings)]
    if name == "hugging_face":
        return [f"search.{problem}" for problem in unsupported_by_hugging_face(settings)]
    if name != "nemo":
        return []
    only = {"method": "beam", "n_best": 1, "length_penalty_form": "wu"}
    return [
        f"search.{key}={getattr(settings, key)}: engine=nemo supports only {key}={value}."
        for key, value in only.items()
        if getattr(settings, key) not in (value, None)
    ]


def model_width(path: str | Path) -> int:
    """Returns the width of a `.nemo`'s or a Hugging Face folder's encoder."""
    if Path(path).is_dir():
        config = read_json(Path(path) / "config.json") or {}
        return config.get("d_model") or config.get("hidden_size") or 0
    return config_width(NemoArchive(path).config)


def found_dtype(dtype: str | None, paths: Sequence[str | Path], device: str) -> str | None:
    """Returns the type of the weights. If it is `auto`, chooses it for the narrowest of the models and prints it.

    Args:
        dtype: the type, or `auto`, or None.
        paths: the models.
        device: Lightning's or torch's name.
    """
    if dtype == AUTO:
        return chosen_dtype("dtype", min(map(model_width, paths)), device)
    warn_of_emulation("dtype", dtype or "", device)
    return dtype


def load_engine(
    name: str,
    paths: Sequence[str | Path],
    device: str = "cpu",
    dtype: str | None = None,
    weights: Sequence[float] | None = None,
    source_language: str | None = None,
    target_language: str | None = None,
) -> Engine:
    """Loads an engine and its models.

    Args:
        name: one of `ENGINES`: `nemo_distill` (our own search), `ctranslate2`, `nemo` (NeMo's search) or
            `hugging_face`.
        paths: a `.nemo`. For `nemo_distill` also several, whose distributions are averaged; for `ctranslate2` also an
            exported folder, or that of a Hugging Face model, which is converted; for `hugging_face` the latter.
        device: a device such as `cpu` or `cuda:1`.
        dtype: the type of the weights: float32, float16, bfloat16 or auto; for CTranslate2 also int8 and others. None:
            float32, or the exported type.
        weights: the weight of each model in the average; None: equal weights.
        source_language: only for multilingual models.
        target_language: only for multilingual models.
    """
    dtype = found_dtype(dtype, paths, device)
    if name == "ctranslate2":
        (path,) = paths
        kind, _, index = device.partition(":")
        where: dict[str, Any] = {"device": kind, "device_index": int(index or 0)}
        languages = source_language, target_language
        if is_folder_of_hugging_face(path):
            return ConvertedEngine.from_folder(path, dtype or "float32", *languages, **where)
        if is_converted(path):
            return ConvertedEngine(path, *languages, compute_type=dtype or "default", **where)
        if Path(path).is_dir():
            return CTranslate2Engine(path, compute_type=dtype or "default", **where)
        return CTranslate2Engine.from_nemo(path, dtype or "float32", **where)
    if name == "hugging_face":
        (path,) = paths
        return HuggingFaceEngine(path, device, dtype or "float32", source_language, target_language)
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    import nemo_distill.nemo_files.youtokentome  # noqa: F401  (teachers of NeMo 1.x need it)
    from nemo_distill.decoding.nemo_engines import CachedEngine, NeMoEngine
    from nemo_distill.nemo_files.restore import restore_for_inference

    to = (device, getattr(torch, dtype or "float32"))
    models = [restore_for_inference(MTEncDecModel, path).to(*to) for path in paths]
    if name == "nemo":
        return NeMoEngine(models[0], source_language, target_language)
    return CachedEngine(models, weights, source_language, target_language)
