"""The part of an evaluation's configuration that says which systems there are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from nemo_distill.config.section import Allowed, changed, section
from nemo_distill.decoding.engines import engine_of, engine_problems, search_problems
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.evaluation_record import TEXT_ONLY, Role
from nemo_distill.evaluation.evaluation_sets import EvaluationSet
from nemo_distill.evaluation.systems import NAME, System, TextSystem
from nemo_distill.storage.files import user_path
from nemo_distill.text.files import as_list, named_files, unequal_lengths
from nemo_distill.text.lines import expand_paths
from nemo_distill.trainer.precision import AUTO

TEXT_KEYS = ("translations", "unescape_html", "role")  # the keys that systems of text only can have


@section
class SystemSection:
    """A model and what translates with it; or `translations`, for a system of which only these are there."""

    model: str = ""
    """A `.nemo` file, an export's folder, or the folder of a Hugging Face model."""
    engine: str | None = None
    """`nemo_distill`, `ctranslate2`, `nemo` or `hugging_face`; null: chosen by the kind of file or folder."""
    dtype: str | None = None
    """Type of the weights; `auto`: as with `trainer.precision=auto`; null: float32, or that of the export."""
    source_language: str | None = None
    """Source language; for multilingual models only."""
    target_language: str | None = None
    """Target language; for multilingual models only."""
    role: Role | None = None
    """`baseline` or `distilled`. Distilled models are compared with the baselines of their size."""
    beam_size: int | None = Field(default=None, ge=1)
    """Beam size of this model; 1 is greedy search; null: that of `search`."""
    preparation_seconds: float | None = Field(default=None, ge=0)
    """Wall time of the labels and caches that its training needed, for the table of costs; null: not known."""
    translations: Annotated[
        str | list[str] | dict[str, str] | None,
        Allowed("a file; for several test sets a file each, as a list in their order or by their names"),
    ] = None
    """Instead of `model`: a file with the system's translations of the test set, plain or packed, a sentence a line;
    for several test sets a file each, as a list in their order or by their names."""
    unescape_html: bool = False
    """Of `translations`: turn HTML entities such as `&#39;` into characters."""

    def problems(self) -> list[str]:
        """Returns a sentence for each reason why the system cannot be evaluated."""
        if self.translations is not None:
            problems = [
                f"{key}={value}: has no effect on a system of translations; leave it out."
                for key, value in changed(self).items()
                if key not in TEXT_KEYS
            ]
            files = list(self._files().values())
            problems += named_files("translations", files)[1]
            return problems + [
                f"translations={file}: must be one file; it names {count}."
                for file in files
                if (count := len(expand_paths(file))) > 1
            ]
        if self.unescape_html:
            return ["unescape_html=true: has an effect only on translations; leave it out."]
        if not self.model:
            return [
                "model has no value; it names a .nemo, or an exported model's folder. For a system of which only "
                "translations are there, give translations instead."
            ]
        return _model_problems(self.system("", ()))

    def set_problems(self, name: str, sets: Mapping[str, EvaluationSet | None]) -> list[str]:
        """Returns a sentence for each test set that `translations` does not fit.

        Args:
            name: the name of the system.
            sets: the test sets, by name; None for one that cannot be read.
        """
        where, files = f"models.{name}.translations", self._files(tuple(sets))
        if self.translations is None:
            return []
        if isinstance(self.translations, Mapping):
            return [
                *(f"{where} lacks the test set '{one}'; give a file for it." for one in sets if one not in files),
                *(f"{where} names '{one}'; test_sets has {', '.join(sets)}." for one in files if one not in sets),
                *_unparallel(where, files, sets),
            ]
        if (given := len(as_list(self.translations))) != len(sets):
            return [
                f"{where} names {given} of the files for {len(sets)} test sets: {', '.join(sets)}; give one for each."
            ]
        return _unparallel(where, files, sets)

    def system(self, name: str, sets: Sequence[str]) -> System:
        """Returns the system that the section describes.

        Args:
            name: the name of the system.
            sets: the names of the test sets.
        """
        if self.translations is not None:
            files = {one: _file(pattern) for one, pattern in self._files(sets).items()}
            model = next(iter(files.values()), Path())
            return TextSystem(name, model, TEXT_ONLY, role=self.role, files=files, unescape_html=self.unescape_html)
        path = user_path(self.model)
        return System(
            name,
            path,
            self.engine or engine_of(path),
            self.dtype,
            self.source_language,
            self.target_language,
            self.role,
            self.beam_size,
            self.preparation_seconds,
        )

    def _files(self, sets: Sequence[str] = ()) -> dict[str, str]:
        """Returns the files of translations by test set, or by number if no sets are given."""
        if isinstance(self.translations, Mapping):
            return dict(self.translations)
        given = as_list(self.translations)
        return dict(zip(sets or map(str, range(len(given))), given))


def _unparallel(where: str, files: Mapping[str, str], sets: Mapping[str, EvaluationSet | None]) -> list[str]:
    problems = []
    for name, pattern in files.items():
        if (one := sets.get(name)) is not None and (file := _file(pattern)).is_file():
            problems += unequal_lengths(f"{where}, {name}", file, one.source)
    return problems


def _file(pattern: str) -> Path:
    """Returns the one file of a pattern; the pattern itself if there is none, which `problems` tells."""
    return next(iter(expand_paths(pattern)), user_path(pattern))


def as_section(value: str | SystemSection) -> SystemSection:
    """Returns the section of a model that is named by its path or by a section."""
    return SystemSection(model=value) if isinstance(value, str) else value


Model = Annotated[str | SystemSection, AfterValidator(as_section)]  # of a configuration: a path, or a section
Models = dict[str, Model]  # by name


def build_systems(models: Mapping[str, str | SystemSection], sets: Sequence[str] = ()) -> list[System]:
    """Returns the systems of a configuration's models.

    Args:
        models: the models.
        sets: the names of the test sets.
    """
    return [as_section(model).system(name, sets) for name, model in models.items()]


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
        problems += [
            f"models.{system.name}: {problem}" for problem in search_problems(system.engine, system.searched(search))
        ]
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


def _model_problems(system: System) -> list[str]:
    if system.engine == AUTO:
        return ["engine=auto: an evaluation compares engines, and so does not choose one; name it, or leave it out."]
    if problems := engine_problems(system.engine, [system.model], system.dtype, *system.languages):
        return problems
    if system.engine == "ctranslate2" and engine_of(system.model) != "ctranslate2":
        # It could be exported on the fly, but then its size and memory would not be those of an export.
        if system.model.is_dir():
            said = "leave engine out, and with export=int8 it is evaluated in CTranslate2 as well"
            return [f"model names '{system.model}', a folder of Hugging Face; {said}."]
        taken = "a folder that 'nemo-distill export' wrote"
        return [f"model names '{system.model}', a .nemo; here engine=ctranslate2 takes {taken}."]
    return []
