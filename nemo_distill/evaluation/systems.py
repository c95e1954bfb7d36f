"""The systems of an evaluation: models with the engines that run them, and their sizes."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import section
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import engine_problems, load_engine, search_problems, written_language
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.evaluation_record import Role
from nemo_distill.evaluation.parameters import ParameterCount, archive_parameters, count_parameters
from nemo_distill.export.record import RECORD_NAME, ExportRecord
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.run_record import read_run

NAME = re.compile(r"[\w.+-]+")  # used in file names
SEED_SUFFIX = re.compile(r"(.+)_seed(\d+)")


@dataclass(frozen=True)
class System:
    """A model with an engine.

    Args:
        name: name of the system in the results. Systems named `x_seed0`, `x_seed1`, ... form the group `x`.
        model: a `.nemo`; for CTranslate2 an exported folder, for Hugging Face a model folder.
        engine: one of `decoding.engines.ENGINES`.
        dtype: of the weights; None for float32, or for what was exported.
        source_language: of multilingual models only.
        target_language: likewise.
        role: what the findings take it for; None for neither.
    """

    name: str
    model: Path
    engine: str
    dtype: str | None = None
    source_language: str | None = None
    target_language: str | None = None
    role: Role | None = None

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

    def training_seconds(self) -> float | None:
        """How long the model was trained, by the `run.json` beside it or a folder above; None without one."""
        if not self.model.is_file():
            return None
        sha256 = fingerprint(self.model)["sha256"]
        for folder in self.model.absolute().parents[:2]:
            try:
                record = read_run(folder) or {}
            except DataError:  # a run.json that is no training's
                continue
            if sha256 in [entry["sha256"] for entry in record.get("models", ())]:
                return record.get("seconds")
        return None

    def label_smoothing(self) -> float | None:
        """The label smoothing that the model was trained with; None where it does not say."""
        if self.engine not in ("nemo_distill", "nemo"):
            return None
        return float(NemoArchive(self.model).config.get("label_smoothing") or 0.0)


@section
class SystemSection:
    """A model of an evaluation, and what translates with it."""

    model: str = ""
    """A `.nemo` file, an export's folder, or the folder of a Hugging Face model."""
    engine: str | None = None
    """`nemo_distill`, `ctranslate2`, `nemo` or `hugging_face`; null: chosen by the kind of file or folder."""
    dtype: str | None = None
    """Type of the weights; null: float32, or that of the export."""
    source_language: str | None = None
    """Source language; for multilingual models only."""
    target_language: str | None = None
    """Target language; for multilingual models only."""
    role: Role | None = None
    """`baseline` or `distilled`; findings say whether a distilled model beats the baselines of its size."""

    def problems(self) -> list[str]:
        """Returns a sentence for each reason why the model cannot be loaded."""
        if not self.model:
            return ["model has no value; it names a .nemo, or an exported model's folder."]
        return _problems(self.system(""))

    def system(self, name: str) -> System:
        """Returns the system that the section describes."""
        path = user_path(self.model)
        languages = (self.source_language, self.target_language)
        return System(name, path, self.engine or _engine_of(path), self.dtype, *languages, self.role)


def _as_section(value: str | SystemSection) -> SystemSection:
    return SystemSection(model=value) if isinstance(value, str) else value


# Models by name: a path each, or a section.
Models = dict[str, Annotated[str | SystemSection, AfterValidator(_as_section)]]


def build_systems(models: Mapping[str, str | SystemSection]) -> list[System]:
    """Returns the systems of a configuration's models."""
    return [_as_section(model).system(name) for name, model in models.items()]


def system_problems(systems: Sequence[System], search: SearchSettings) -> list[str]:
    """Returns a sentence for each problem of systems that are evaluated together.

    Args:
        systems: the systems.
        search: what their engines are to follow.
    """
    if not systems:
        return ["models is empty: give at least one, '+models.student=student.nemo'."]
    names = [system.name for system in systems]
    problems = [
        f"models.{name}: a name may have letters, digits, _, +, - and dots."
        for name in names
        if not NAME.fullmatch(name)
    ]
    for system in systems:
        problems += [f"models.{system.name}: {problem}" for problem in search_problems(system.engine, search)]
    return problems + _group_problems(systems)


def _group_problems(systems: Sequence[System]) -> list[str]:
    """Returns a sentence if two systems of a group have the same seed, or if only some of them have a seed."""
    problems = []
    groups: dict[str, dict[int | None, str]] = {}
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
    if os.path.isfile(path / RECORD_NAME) and not os.path.isfile(path / "tokenizer_config.json"):
        return "ctranslate2"  # the other export is for Hugging Face
    return "hugging_face" if os.path.isdir(path) else "nemo_distill"


def _problems(system: System) -> list[str]:
    languages = (system.source_language, system.target_language)
    if problems := engine_problems(system.engine, [system.model], system.dtype, *languages):
        return problems
    if system.engine == "ctranslate2" and system.model.is_file():
        # It could be exported on the fly, but then its size and memory would not be those of an export.
        taken = "a folder that 'nemo-distill export' wrote"
        return [f"model names '{system.model}', a .nemo; here engine=ctranslate2 takes {taken}."]
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
