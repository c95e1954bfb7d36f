"""Typed sections of a configuration, and the sentences that say what is wrong with one.

A section is a class of plain fields. Each field's type, default, limits and description stand in the class and nowhere
else; the checks, the sentences and the configuration reference are all derived from it:

    @section
    class SearchSettings:
        beam_size: int = Field(4, ge=1)
        \"""Hypotheses that are followed; 1 is greedy search.\"""
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, dataclass_transform, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from nemo_distill.config.checks import check_missing, suggestion
from nemo_distill.config.errors import ConfigurationError

Section = TypeVar("Section")
# A number must be written as one, and what a class does not name is refused.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
PLAIN_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    bool: "true or false",
    NoneType: "null",
}
MISSING = "???"  # stands for a value that must be given
OWN_WORDS = "own_words"  # the type of an error whose message follows the key and ends the sentence
BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}


@dataclass(frozen=True)
class Allowed:
    """Goes into an `Annotated` type: says in words what the type allows, where they do not follow from it."""

    words: str


def refuse(words: str) -> NoReturn:
    """Called by a field's validator: ends the sentence that begins with the field's key by these words."""
    raise PydanticCustomError(OWN_WORDS, "{words}", {"words": words})


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def section(cls: type[Section]) -> type[Section]:
    """Makes a class of fields a section: frozen, checked when it is built, and described by its fields' docstrings.

    A section may have a method `problems()` that returns a sentence for each rule that concerns several of its keys;
    such a sentence begins with a key of the section. `in_words` may say what the section is, for sentences.
    """
    made = pydantic_dataclass(frozen=True, config=STRICT)(cls)
    for name, field in made.__pydantic_fields__.items():
        for base in made.__mro__[1:]:  # pydantic reads the docstrings of a class's own fields
            if field.description is None and name in getattr(base, "__pydantic_fields__", {}):
                field.description = base.__pydantic_fields__[name].description
    return made


def read_config(section_class: type[Section], cfg: DictConfig, other_keys: bool = False) -> Section:
    """Returns the section that a whole configuration stands for.

    Args:
        section_class: the class.
        cfg: the configuration.
        other_keys: whether it may have keys that the class does not name, such as lists that other keys refer to.

    Raises:
        ConfigurationError: with every problem found.
    """
    missing = check_missing(cfg)
    try:
        values = OmegaConf.to_container(cfg, resolve=True)
    except InterpolationToMissingValueError as error:
        raise ConfigurationError(missing) from error
    if other_keys:
        values = {key: value for key, value in values.items() if key in section_class.__pydantic_fields__}
    found, problems = read_section(section_class, values)
    problems = missing + [problem for problem in problems if not (missing and MISSING in problem)]
    if problems:
        raise ConfigurationError(problems)
    return found


def read_section(section_class: type[Section], values: Any, where: str = "") -> tuple[Section | None, list[str]]:
    """Returns the section, or None where a key or a value does not fit it, and a sentence for each problem.

    Args:
        section_class: the class.
        values: plain values, as a resolved configuration has them.
        where: the section's key, as the user types it; "" for a whole configuration.
    """
    if not isinstance(values, Mapping):
        return None, [f"{where}={values}: must be {type_in_words(section_class, ())}."]
    try:
        found = _adapter(section_class).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        told = [*_sentences(section_class, values, where, error), *_rules_of_parts(section_class, values, where)]
        return None, list(dict.fromkeys(told))
    return found, list(_rule_problems(found, where))


@cache
def _adapter(section_class: type) -> TypeAdapter:
    return TypeAdapter(section_class)


def _rule_problems(value: Any, where: str) -> Iterator[str]:
    """Yields what `problems()` of a section, and of all sections in it, return."""
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    elif is_dataclass(value):
        parts = [(field.name, getattr(value, field.name)) for field in fields(value)]
        if hasattr(value, "problems"):
            yield from (_key(where, problem) for problem in value.problems())
    else:
        return
    for name, part in parts:
        yield from _rule_problems(part, _key(where, name))


def _rules_of_parts(type_: Any, value: Any, where: str) -> Iterator[str]:
    """Yields what `problems()` of those sections return that fit their types, within a value that does not."""
    place = _Place(type_, (), value, where)
    for name in value if isinstance(value, Mapping) else range(len(value)) if isinstance(value, list) else ():
        if (part := place.inside(name)) is None:
            continue
        try:
            found = _adapter(part.type_).validate_json(json.dumps(part.value, default=str))
        except (ValidationError, PydanticUserError):
            yield from _rules_of_parts(part.type_, part.value, part.where)
        else:
            yield from _rule_problems(found, part.where)


def _key(where: str, name: Any) -> str:
    if isinstance(name, int):
        return f"{where}[{name}]"
    return f"{where}.{name}" if where else str(name)


def _sentences(section_class: type, values: Mapping[str, Any], where: str, error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        place = _Place(section_class, (), values, where)
        for part in problem["loc"]:
            if place.is_other_option(part):
                break
            inner = place.inside(part)
            if inner is None:
                yield place.sentence(problem)
                break
            place = inner
        else:
            yield place.sentence(problem)


def _shown(value: Any) -> str:
    """A value as a user would type it; a text that looks like a number has quotes."""
    if isinstance(value, str):
        return repr(value) if value.replace(".", "", 1).lstrip("-").isdigit() else value
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class _Place:
    """A value of a configuration, with its key, the type that it should be of, and what else the type demands."""

    type_: Any
    demands: Sequence[Any]
    value: Any
    where: str
    outer: type | None = None

    def inside(self, part: int | str) -> "_Place | None":
        """Returns the place of a part of this value; None where the sentence is to be about the value as a whole."""
        for option in map(_plain, _options(_plain(self.type_))):
            origin = get_origin(option) or option
            if is_dataclass(option) and isinstance(self.value, Mapping):
                known = option.__pydantic_fields__
                if part == option.__name__:  # pydantic's word for one of several types
                    return _Place(option, (), self.value, self.where)
                field = known.get(part, FieldInfo(annotation=Any))
                return _Place(
                    field.annotation, field.metadata, self.value.get(part), _key(self.where, part), outer=option
                )
            if origin is dict and isinstance(self.value, Mapping) and part in self.value:
                return _Place(get_args(option)[-1], (), self.value[part], _key(self.where, part))
            if origin in (list, tuple) and isinstance(self.value, list) and isinstance(part, int):
                return _Place(get_args(option)[0], (), self.value[part], _key(self.where, part))
        return None

    def is_other_option(self, part: int | str) -> bool:
        """True if a value may be a section or something else, is written as a section, and `part` is the else."""
        options = [option for option in _options(_plain(self.type_)) if option is not NoneType]  # null has no word
        sections = [option for option in options if is_dataclass(option)]
        several = len(options) > 1 and isinstance(self.value, Mapping)
        return bool(sections) and several and part not in [option.__name__ for option in sections]

    def sentence(self, problem: Mapping[str, Any]) -> str:
        """Says what is wrong here.

        Args:
            problem: as pydantic describes it.
        """
        if problem["type"] == "missing":
            return f"{self.where} has no value; give it."
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            section_key, _, name = self.where.rpartition(".")
            known = suggestion(name, self.outer.__pydantic_fields__)
            return f"{section_key or 'the configuration'} has the unknown key '{name}'{known}."
        if problem["type"] == OWN_WORDS:
            return f"{self.where} {problem['msg']}."
        allowed = f"must be {type_in_words(self.type_, self.demands)}"
        reason = str(problem["ctx"]["error"]) if problem["type"] == "value_error" else allowed
        return f"{self.where}={_shown(self.value)}: {reason}."


def _plain(type_: Any) -> Any:
    """A type without what `Annotated` says of it."""
    return get_args(type_)[0] if get_origin(type_) is Annotated else type_


def _options(type_: Any) -> tuple[Any, ...]:
    return get_args(type_) if get_origin(type_) in (UnionType, Union) else (type_,)


def type_in_words(type_: Any, demands: Sequence[Any]) -> str:
    """Says what a type and its demands allow, as in "null or a whole number of at least 1"."""
    for demand in demands:
        if isinstance(demand, Allowed):
            return demand.words
    options = sorted(_options(type_), key=lambda option: option is not NoneType)
    return " or ".join(_option_words(option, demands) for option in options)


def _option_words(type_: Any, demands: Sequence[Any]) -> str:
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        own = [one for demand in arguments[1:] for one in getattr(demand, "metadata", [demand])]
        return type_in_words(arguments[0], [*own, *demands])
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(_shown(word) for word in arguments)
    if origin in (list, tuple):
        several = "a list that is not empty" if any(isinstance(one, MinLen) for one in demands) else "a list"
        return (
            f"{several}, of which each entry is {type_in_words(arguments[0], ())}"
            if arguments[:1] != (Any,)
            else several
        )
    if origin is dict or type_ is dict:
        return "a section"
    if is_dataclass(type_):
        return getattr(type_, "in_words", None) or f"a section with {', '.join(sorted(type_.__pydantic_fields__))}"
    return " ".join(filter(None, [PLAIN_WORDS.get(type_, "a value"), _bounds(type_, demands)]))


def _bounds(type_: Any, demands: Sequence[Any]) -> str:
    if type_ not in (int, float):
        return ""
    said = [
        f"{BOUNDS[type(demand)][1]} {getattr(demand, BOUNDS[type(demand)][0]):g}"
        for demand in demands
        if type(demand) in BOUNDS
    ]
    joined = " and ".join(said)
    return f"of {joined}" if joined.startswith("at") else joined


def read_value(type_: Any, value: Any, where: str) -> tuple[Any, list[str]]:
    """Returns a value that stands outside of any section, or None, and a sentence for each problem.

    Args:
        type_: what it should be; may hold sections.
        value: plain, as a resolved configuration has it.
        where: its key, as the user types it.
    """
    holder = _holder(type_)
    found, problems = read_section(holder, {"value": value})
    return found and found.value, [f"{where}{problem.removeprefix('value')}" for problem in problems]


@cache
def _holder(type_: Any) -> type:
    holder = type("Holder", (), {"__annotations__": {"value": type_}, "__module__": __name__})
    return pydantic_dataclass(frozen=True, config={**STRICT, "use_attribute_docstrings": False})(holder)  # it has none


def argument_problem(where: str, value: Any, type_: Any) -> str | None:
    """Returns a sentence if a value is not of the type that a function declares for an argument.

    Of types that no configuration can hold, such as those of users' own losses, nothing is said.

    Args:
        where: the key, as the user types it.
        value: plain, as a resolved configuration has it.
        type_: the annotation.
    """
    try:
        adapter = TypeAdapter(type_, config=ConfigDict(strict=True, allow_inf_nan=False))
        adapter.validate_json(json.dumps(value, default=str))
    except ValidationError:
        return f"{where}={_shown(value)}: must be {type_in_words(type_, ())}."
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None
    return None
