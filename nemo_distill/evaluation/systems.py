"""The systems of an evaluation: models with the engines that run them, and their sizes."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_distill.config.section import read_section, section
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import engine_problems, load_engine, search_problems, written_language
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.parameters import ParameterCount, archive_parameters, count_parameters
from nemo_distill.export.record import RECORD_NAME, ExportRecord
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.storage.files import user_path

NAME = re.compile(r"[\w.+-]+")  # used in file names
SEED_SUFFIX = re.compile(r"(.+)_seed(\d+)")


@dataclass(frozen=True)
class System:
    """A model with an engine.

    Args:
        name: name of the system in the results. Systems named `x_seed0`, `x_seed1`, ... form the group `x`.
        model: a `.nemo`; for CTranslate2 an exported folder, for Hugging Face a model folder.
        engine: one of `decoding.engines.ENGINES`.
        dtype: the type of the weights; None: float32, or the exported type.
        source_language: only for multilingual models.
        target_language: only for multilingual models.
    """

    name: str
    model: Path
    engine: str
    dtype: str | None = None
    source_language: str | None = None
    target_language: str | None = None

    @property
    def group(self) -> str:
        """The name without the seed."""
        match = SEED_SUFFIX.fullmatch(self.name)
        return match[1] if match else self.name

    @property
    def seed(self) -> int | None:
        """The seed in the name, or None."""
        match = SEED_SUFFIX.fullmatch(self.name)
        return int(match[2]) if match else None

    def load(self, device: str) -> Engine:
        """Loads the model on a device."""
        languages = (self.source_language, self.target_language)
        return load_engine(self.engine, [self.model], device, self.dtype, None, *languages)

    def parameters(self) -> ParameterCount | None:
        """Returns the number of parameters without loading the model; None if its config is not sufficient."""
        if self.engine == "ctranslate2":
            return _export_parameters(self.model)
        if self.engine == "hugging_face":
            return _hugging_face_parameters(self.model)
        return archive_parameters(NemoArchive(self.model))

    def written_language(self) -> str | None:
        """Returns the target language; None if the model does not say."""
        return written_language(self.engine, self.model, self.target_language)

    def bytes(self) -> int:
        """Returns the size on disk of the file, or of all files in the folder."""
        files = [self.model] if self.model.is_file() else self.model.rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())


@section
class SystemSection:
    """A system in a config."""

    model: str = ""
    engine: str | None = None
    dtype: str | None = None
    source_language: str | None = None
    target_language: str | None = None

    def problems(self) -> list[str]:
        return [] if self.model else ["model has no value; it names a .nemo, or an exported model's folder."]


def read_systems(models: Mapping[str, Any], search: SearchSettings | None) -> tuple[list[System], list[str]]:
    """Returns the systems in a config, and a sentence for each problem.

    Args:
        models: maps names to paths, or to sections with `model` and optionally `engine`.
        search: the search settings of the engines; None if they are invalid.
    """
    systems, problems = [], []
    if not isinstance(models, Mapping):
        return [], [f"models={models}: must be a section, as '+models.student=student.nemo'."]
    if not models:
        problems.append("models is empty: give at least one, '+models.student=student.nemo'.")
    for name, values in models.items():
        where = f"models.{name}"
        if not NAME.fullmatch(str(name)):
            problems.append(f"{where}: a name may have letters, digits, _, +, - and dots.")
        values = {"model": values} if isinstance(values, str) else values
        if not isinstance(values, Mapping):
            problems.append(f"{where}={values}: must be a path, or a section with model and engine.")
            continue
        section, wrong = read_section(SystemSection, values, where)
        problems += wrong
        if section and not wrong:
            path = user_path(section.model)
            rest = (section.dtype, section.source_language, section.target_language)
            systems.append(System(str(name), path, section.engine or _engine_of(path), *rest))
            problems += [f"{where}: {problem}" for problem in _problems(systems[-1], search)]
    return systems, problems + _group_problems(systems)


def _group_problems(systems: Sequence[System]) -> list[str]:
    """Returns a sentence if two systems of a group have the same seed, or if only some of them have a seed."""
    problems, groups = [], {}
    for system in systems:
        others = groups.setdefault(system.group, {})
        if system.seed in others:
            problems.append(f"models.{system.name} has the group and seed of models.{others[system.seed]}; rename it.")
        elif others and None in (system.seed, *others):
            other = next(iter(others.values()))
            problems.append(f"models.{system.name} and models.{other} are one group, but one of them has no seed.")
        others.setdefault(system.seed, system.name)
    return problems


def _engine_of(path: Path) -> str:
    if os.path.isfile(path / RECORD_NAME):
        return "ctranslate2"
    return "hugging_face" if os.path.isdir(path) else "nemo_distill"


def _problems(system: System, search: SearchSettings | None) -> list[str]:
    problems = engine_problems(system.engine, [system.model], system.dtype)
    if search:
        problems += search_problems(system.engine, search)
    if problems:
        return problems
    if system.engine == "ctranslate2" and system.model.is_file():
        # It could be exported on the fly, but then its size and memory would not be those of an export.
        taken = "a folder that 'nemo-distill export' wrote"
        return [f"model names '{system.model}', a .nemo; here engine=ctranslate2 takes {taken}."]
    try:
        if system.engine == "ctranslate2":
            ExportRecord.read(system.model)
        elif system.engine != "hugging_face":
            NemoArchive(system.model)
    except ValueError as error:
        return [f"{error}."]
    return []


def _export_parameters(folder: Path) -> ParameterCount | None:
    record = ExportRecord.read(folder)
    if "shared_embeddings" not in record.architecture:  # export by an earlier version
        return None
    return count_parameters(record.architecture, record.source.pieces, record.target.pieces)


def _hugging_face_parameters(folder: Path) -> ParameterCount:
    """Builds the model without allocating its weights, so that tied weights are counted once."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    from nemo_distill.decoding.hugging_face_engine import LOCAL_ONLY

    with torch.device("meta"):
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.from_pretrained(folder, **LOCAL_ONLY))
    tables = {module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    total, embeddings = (sum(weight.numel() for weight in group) for group in (model.parameters(), tables))
    return ParameterCount(total, embeddings, total - embeddings + model.get_output_embeddings().weight.numel())
