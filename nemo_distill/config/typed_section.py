"""Builds the dataclass that a section of a configuration stands for, and tells keys and values that do not fit it."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

from nemo_distill.config.checks import suggestion
from nemo_distill.config.plain_types import fits, words

Section = TypeVar("Section")


def build_section(section_class: type[Section], values: Any, where: str) -> tuple[Section | None, list[str]]:
    """Returns the section, or None where keys or types do not fit, and a sentence for each problem.

    Args:
        section_class: a dataclass of plain values, whose `problems()` says what else is wrong with them.
        values: the section, resolved.
        where: its name, for the sentences.
    """
    types = get_type_hints(section_class)
    known = {field.name: types[field.name] for field in fields(section_class)}
    if not isinstance(values, Mapping):
        return None, [f"{where}={values}: must be a section with {', '.join(sorted(known))}."]
    problems = [f"{where} has the unknown key '{key}'{suggestion(key, known)}." for key in values if key not in known]
    needed = [field.name for field in fields(section_class) if field.default is field.default_factory is MISSING]
    problems += [f"{where}.{key} has no value; give it." for key in needed if key not in values]
    wrong = {key for key, type_ in known.items() if key in values and not fits(values[key], type_)}
    problems += [f"{where}.{key}={values[key]}: must be {words(known[key])}." for key in sorted(wrong)]
    if problems:
        return None, problems
    section = section_class(**values)
    return section, [f"{where}.{problem}" for problem in section.problems()]
