"""Builds the dataclass that a section of a configuration stands for, and tells keys and values that do not fit it."""

from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from nemo_distill.core.config import suggestion

Section = TypeVar("Section")


def build_section(
    section_class: type[Section], values: Mapping[str, Any], where: str
) -> tuple[Section | None, list[str]]:
    """Returns the section, or None where keys or types do not fit, and a sentence for each problem.

    Args:
        section_class: a dataclass of plain values, whose `problems()` says what else is wrong with them.
        values: the section, resolved.
        where: its name, for the sentences.
    """
    types = get_type_hints(section_class)
    known = {field.name: types[field.name] for field in fields(section_class)}
    problems = [f"{where} has the unknown key '{key}'{suggestion(key, known)}." for key in values if key not in known]
    wrong = {key for key, type_ in known.items() if key in values and not _fits(values[key], type_)}
    problems += [f"{where}.{key}={values[key]}: must be {_words(known[key])}." for key in sorted(wrong)]
    if problems:
        return None, problems
    section = section_class(**values)
    return section, [f"{where}.{problem}" for problem in section.problems()]


def _options(type_: Any) -> tuple[type, ...]:
    return get_args(type_) if get_origin(type_) is UnionType else (type_,)


def _fits(value: Any, type_: Any) -> bool:
    options = _options(type_)
    if isinstance(value, bool):
        return bool in options
    if isinstance(value, int) and float in options:
        return True
    return isinstance(value, options)


def _words(type_: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        str: "a word",
        list: "a list",
        bool: "true or false",
        type(None): "null",
    }
    return " or ".join(names[option] for option in _options(type_))
