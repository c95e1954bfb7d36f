"""Exports the models of an evaluation to CTranslate2, so that speeds and sizes are compared within one engine.

A student is served as an export, and a teacher can be exported as well. The gain of the engine and of the precision is
not the student's, so every `.nemo` and every Hugging Face folder is evaluated both as it is and exported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import console
from nemo_distill.decoding.converted_engine import conversion_problems, convert_folder
from nemo_distill.decoding.engines import search_problems
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.systems import EXPORTED, System
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import ExportSettings, Quantization, missing_package
from nemo_distill.export.supported import unsupported
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.storage.files import versions
from nemo_distill.storage.ledger import fingerprint

PACKAGES = ("ctranslate2", "nemo_toolkit", "torch")


def with_exports(
    systems: Sequence[System], search: SearchSettings, quantization: str | None, folder: Path
) -> tuple[list[System], list[str]]:
    """Returns the systems, each model followed by its export, which `make_exports` makes.

    A model is not exported if there is already a system that runs its export. Of several systems that run one model,
    only those that differ in beam size are evaluated as exports too, and their exports share a folder.

    Args:
        systems: the systems of a configuration.
        search: how they search.
        quantization: of the exports; None for no exports.
        folder: where the exports are kept.

    Returns:
        The systems, those with the same model linked, and a sentence for each model that cannot be exported.

    Raises:
        ConfigurationError: if another system already has the name of an export.
    """
    given = {(system.sha256(), system.precision) for system in systems if system.engine == "ctranslate2"}
    linked = _linked(systems)
    if quantization is None:
        return linked, []
    found: list[System] = []
    there: set[tuple[Any, ...]] = set()
    folders: dict[str | None, Path] = {}
    reasons: dict[str, list[str]] = {}
    for system in linked:
        found.append(system)
        sha256 = system.sha256()
        searched = sha256, system.searched(search).beam_size, system.languages
        if system.engine not in EXPORTED or (sha256, quantization) in given or searched in there:
            continue
        there.add(searched)
        if problems := _problems(system, search):
            reasons.setdefault(" ".join(problems), []).append(system.name)
        else:
            name = f"{system.group}_{quantization}" + ("" if system.seed is None else f"_seed{system.seed}")
            origin = system.same_model_as or system.name
            path = folders.setdefault(sha256, folder / name)
            export = replace(system, name=name, model=path, engine="ctranslate2", dtype=None, same_model_as=origin)
            found.append(replace(export, made_from=system))
    _check_names(found)
    return found, [f"Not exported to {quantization}: {', '.join(names)}. {why}" for why, names in reasons.items()]


def make_exports(systems: Sequence[System], quantization: str) -> None:
    """Writes the exports among the systems that are not there yet, or were made of another model or version."""
    for system in systems:
        if system.made_from is None or _is_made(system.model, system.made_from.model, quantization):
            continue
        console.info(f"exporting {system.made_from.name} to CTranslate2 {quantization}")
        if system.made_from.engine == "hugging_face":
            convert_folder(system.made_from.model, system.model, quantization)
            continue
        from nemo_distill.export.export_model import export_model

        export_model(
            ExportSettings(
                system.made_from.model, system.model, quantization=cast(Quantization, quantization), force=True
            )
        )


def _linked(systems: Sequence[System]) -> list[System]:
    """Returns the systems; those that run the model of another one, or its export, say whose it is."""
    first: dict[str | None, str] = {None: ""}
    for system in sorted(systems, key=lambda one: one.engine not in EXPORTED):  # exports last
        first.setdefault(system.sha256(), system.name)
    origins = [first[system.sha256()] for system in systems]
    return [
        replace(system, same_model_as=origin) if origin not in ("", system.name) else system
        for system, origin in zip(systems, origins)
    ]


def _check_names(systems: Sequence[System]) -> None:
    """Refuses names by which a system would be one group with an export that is made here, unless it is a seed."""
    exports = [(system, system.made_from.name) for system in systems if system.made_from]
    problems = []
    for system in [system for system in systems if not system.made_from]:
        for export, origin in exports:
            seeds = {system.seed, export.seed}
            if system.group == export.group and (len(seeds) == 1 or None in seeds):
                has = "the name" if system.name == export.name else "a name of the group"
                problems.append(
                    f"models.{system.name} has {has} that the export of models.{origin} gets; rename it, or set "
                    "export=null."
                )
                break
    if problems:
        raise ConfigurationError(problems)


def _problems(system: System, search: SearchSettings) -> list[str]:
    if not find_spec("ctranslate2"):
        return [missing_package("ctranslate2")]
    searching = search_problems("ctranslate2", system.searched(search))
    if system.engine == "hugging_face":
        return [*conversion_problems(system.model), *searching]
    config: Mapping = OmegaConf.to_container(NemoArchive(system.model).config)
    return [*unsupported(config, "ctranslate2"), *searching]


def _is_made(folder: Path, model: Path, quantization: str) -> bool:
    try:
        record = ExportRecord.read(folder)
    except ValueError:
        return False
    made_of = record.sha256, record.quantization, {name: record.versions.get(name) for name in PACKAGES}
    return made_of == (fingerprint(model)["sha256"], quantization, versions(PACKAGES))
