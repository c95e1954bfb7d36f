"""Typed sections of a configuration, and messages about their problems.

A section is a class of plain fields. The class is the only place for each field's type, default, limits and
description. The checks, the messages and the configuration reference are derived from it:

    @section
    class SearchSettings:
        beam_size: int = Field(default=4, ge=1)
        \"""Number of hypotheses in the beam; 1 is greedy search.\"""
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, wraps
from types import NoneType
from typing import Annotated, Any, NoReturn, TypeVar, cast, dataclass_transform, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from nemo_distill.config.checks import MISSING, check_missing, key_of, parts_of, suggestion, walked
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.wording import Allowed as Allowed
from nemo_distill.config.wording import is_section, mistake, plain_options_of, shown

Section = TypeVar("Section")
# Numbers must be written as numbers, and unknown keys are rejected.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
OWN_WORDS = "own_words"  # the type of an error whose message follows the key and ends the sentence
_adapter: Callable[[Any], TypeAdapter] = cache(TypeAdapter)


def refuse(words: str) -> NoReturn:
    """Raises an error in a field's validator. `words` complete the sentence that begins with the field's key."""
    raise PydanticCustomError(OWN_WORDS, "{words}", {"words": words})


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def section(cls: type[Section]) -> type[Section]:
    """Makes a class a section: frozen, validated, and described by its fields' docstrings.

    One that is made in Python raises a `ConfigurationError` for wrong values too, but runs no rules.

    Methods with the decorator `@rule` return a sentence for each thing that is wrong with several keys together. A
    method `problems()` is one more rule. `in_words` may say what the section is, for sentences.
    """
    made: Any = pydantic_dataclass(frozen=True, config=STRICT)(cls)
    for name, field in made.__pydantic_fields__.items():
        for base in made.__mro__[1:]:  # pydantic reads the docstrings of a class's own fields
            if field.description is None and name in getattr(base, "__pydantic_fields__", {}):
                field.description = base.__pydantic_fields__[name].description
    _raise_in_words(made)
    return cast(type[Section], made)


def _raise_in_words(section_class: Any) -> None:
    """Makes the constructor of a section raise our sentences. What reads a configuration does not call it."""
    # Optional keys have no order, which a new key would change.
    keys = section_class.__pydantic_fields__.items()
    names = [name for name, field in keys if field.is_required() and not field.kw_only]
    make = section_class.__init__

    @wraps(make)
    def make_or_tell(made: Any, /, *values: Any, **named: Any) -> None:
        if len(values) > len(names):
            raise TypeError(
                f"{section_class.__name__}: {len(values)} values have no key, and at most {len(names)} may"
            )
        first = dict(zip(names, values))
        try:
            make(made, **first, **named)
        except ValidationError as error:
            raise ConfigurationError(list(_sentences(section_class, first | named, "", error))) from error

    section_class.__init__ = make_or_tell


def rule(method: Callable[[Any], list[str]]) -> Callable[[Any], list[str]]:
    """Marks a method of a section that returns sentences, each of which begins with a key of the section.

    Where some keys are wrong by themselves, the rules that do not read them still have their say.
    """
    method.__dict__["is_rule"] = True
    return method


def read_config(section_class: type[Section], cfg: DictConfig, other_keys: bool = False) -> Section:
    """Returns a whole configuration as a section.

    Args:
        other_keys: whether it may have keys that the class does not name, such as lists that other keys refer to.

    Raises:
        ConfigurationError: with every problem found.
    """
    try:
        values = _without_missing(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False))
    except InterpolationToMissingValueError as error:
        raise ConfigurationError(check_missing(cfg)) from error
    if other_keys:
        values = {key: value for key, value in values.items() if key in _fields(section_class)}
    found, problems = read_section(section_class, values)
    problems = list(dict.fromkeys([*check_missing(cfg), *problems]))
    if found is None or problems:
        raise ConfigurationError(problems)
    return found


def _fields(section_class: Any) -> dict[str, FieldInfo]:
    return section_class.__pydantic_fields__


def _without_missing(values: Any) -> Any:
    """Leaves out keys without a value, so that what is wrong with the others is told as well."""
    if not isinstance(values, Mapping):
        return values
    return {key: _without_missing(value) for key, value in values.items() if value != MISSING}


def read_section(section_class: type[Section], values: Any, where: str = "") -> tuple[Section | None, list[str]]:
    """Returns the section, or None if a key or value is invalid, and a sentence for each problem.

    Args:
        values: plain values of a resolved configuration.
        where: the section's key as the user types it; "" for a whole configuration.
    """
    if not isinstance(values, Mapping):
        return None, [mistake(where, values, section_class)]
    if problems := list(_not_utf8(values, where)):
        return None, problems
    try:
        found = _adapter(section_class).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        problems = [
            *_sentences(section_class, values, where, error),
            *_rule_problems(_partial(section_class, values), where),
        ]
        return None, list(dict.fromkeys(problems))
    return found, list(_rule_problems(found, where))


def _not_utf8(values: Any, where: str) -> Iterator[str]:
    """Yields a sentence for each text that JSON cannot hold, such as the name of a file that is not UTF-8."""
    for key, _, value in walked(values, where):
        if isinstance(value, str) and (said := value.encode("utf-8", "replace").decode()) != value:
            yield f"{key}={said}: must be UTF-8; if it is the name of a file, rename the file."


def _rule_problems(value: Any, where: str) -> Iterator[str]:
    """Yields what the rules of a section, and of all sections in it, return."""
    parts = parts_of(value)
    if is_section(value):
        known = vars(value)
        parts = [(field.name, known[field.name]) for field in fields(value) if field.name in known]
        section_class: Any = type(value)
        for one in _rules(section_class):
            try:
                yield from (key_of(where, problem) for problem in one(value))
            except _WrongKey:
                continue
    for name, part in parts:
        yield from _rule_problems(part, key_of(where, name))


def broken_rules(found: Any) -> list[str]:
    """Returns the sentences of the rules of a section, and of all sections in it."""
    return list(_rule_problems(found, ""))


def changed(found: Any, *keys: str) -> dict[str, Any]:
    """Returns the values of a section's keys, or of these, that are not the defaults. A required key has none."""
    known = _fields(type(found))
    values = {key: getattr(found, key) for key in keys or known}
    defaults = {key: known[key].get_default(call_default_factory=True) for key in values}
    return {key: value for key, value in values.items() if value != defaults[key]}


@cache
def _rules(section_class: type) -> list[Callable[[Any], list[str]]]:
    methods = {name: one for base in reversed(section_class.__mro__) for name, one in vars(base).items()}
    return [one for name, one in methods.items() if name == "problems" or getattr(one, "is_rule", False)]


class _WrongKey(Exception):
    """A rule has read a key whose value is wrong by itself, which has been told."""


def _partial(section_class: type, values: Mapping[str, Any]) -> Any:
    """Returns an object of the class that holds what is right, and raises `_WrongKey` where a rule reads the rest."""
    parts, wrong = {}, {}
    for name, field in _fields(section_class).items():
        if name in values:
            type_ = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            parts[name], is_right = _right_part(type_, values[name])
        else:
            parts[name], is_right = field.get_default(call_default_factory=True), not field.is_required()
        if not is_right:
            wrong[name] = property(_refuse_reading)
    made: Any = object.__new__(type(section_class.__name__, (section_class,), wrong))
    vars(made).update(parts)
    return made


def _refuse_reading(made: Any) -> NoReturn:
    raise _WrongKey


def _right_part(type_: Any, value: Any) -> tuple[Any, bool]:
    """Returns what is right of a value, sections in it in part, and whether rules may read it."""
    try:
        return _adapter(_holder(type_)).validate_json(json.dumps({"value": value}, default=str)).value, True
    except ValidationError:
        pass
    for option in plain_options_of(type_):
        if is_section(option) and isinstance(value, Mapping):
            return _partial(option, value), True
        if get_origin(option) is dict and isinstance(value, Mapping):
            parts = {name: _right_part(get_args(option)[-1], part) for name, part in value.items()}
            return {name: part for name, (part, _) in parts.items()}, all(right for _, right in parts.values())
    return None, False


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


@dataclass(frozen=True)
class _Place:
    """A value in a configuration, with its key, its expected type, and additional constraints on it."""

    type_: Any
    demands: Sequence[Any]
    value: Any
    where: str
    outer: Any = None

    def inside(self, part: int | str) -> "_Place | None":
        """Returns the place of a part of this value; None where the sentence is to be about the value as a whole."""
        for option in plain_options_of(self.type_):
            origin = get_origin(option) or option
            if is_section(option) and isinstance(self.value, Mapping):
                known = option.__pydantic_fields__
                if part == option.__name__:  # pydantic's word for one of several types
                    return _Place(option, (), self.value, self.where)
                field = known.get(part, FieldInfo(annotation=Any))
                return _Place(
                    field.annotation, field.metadata, self.value.get(part), key_of(self.where, part), outer=option
                )
            if origin is dict and isinstance(self.value, Mapping) and part in self.value:
                return _Place(get_args(option)[-1], (), self.value[part], key_of(self.where, part))
            if origin in (list, tuple) and isinstance(self.value, list) and isinstance(part, int):
                return _Place(get_args(option)[0], (), self.value[part], key_of(self.where, part))
        return None

    def is_other_option(self, part: int | str) -> bool:
        """True if a value may be a section or something else, is written as a section, and `part` is the else."""
        options = [option for option in plain_options_of(self.type_) if option is not NoneType]
        sections = [option.__name__ for option in options if is_section(option)]
        return len(options) > 1 and bool(sections) and isinstance(self.value, Mapping) and part not in sections

    def sentence(self, problem: Mapping[str, Any]) -> str:
        """Returns the message for a problem at this place."""
        if problem["type"] == "missing":
            return f"{self.where} has no value; give it."
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            section_key, _, name = self.where.rpartition(".")
            known = suggestion(name, self.outer.__pydantic_fields__)
            return f"{section_key or 'the configuration'} has the unknown key '{name}'{known}."
        if problem["type"] == OWN_WORDS:
            return f"{self.where} {problem['msg']}."
        if problem["type"] == "value_error":
            return f"{self.where}={shown(self.value)}: {problem['ctx']['error']}."
        return mistake(self.where, self.value, self.type_, self.demands)


def read_value(type_: Any, value: Any, where: str) -> tuple[Any, list[str]]:
    """Validates a value outside of any section. Returns it, or None, and a sentence for each problem.

    Args:
        type_: the expected type; it may contain sections.
        value: a plain value of a resolved configuration.
        where: the key as the user types it.
    """
    holder = _holder(type_)
    found, problems = read_section(holder, {"value": value})
    return found and found.value, [f"{where}{problem.removeprefix('value')}" for problem in problems]


@cache
def _holder(type_: Any) -> type:
    holder = type("Holder", (), {"__annotations__": {"value": type_}, "__module__": __name__})
    return pydantic_dataclass(frozen=True, config={**STRICT, "use_attribute_docstrings": False})(holder)  # it has none


def argument_problem(where: str, value: Any, type_: Any) -> str | None:
    """Returns a sentence if a value does not fit a function's type annotation.

    Types that a configuration cannot express, such as those in users' own losses, are not checked.

    Args:
        where: the key as the user types it.
        value: a plain value of a resolved configuration.
    """
    try:
        try:
            adapter = _argument_adapter(type_)
        except TypeError:  # no hash, such as Annotated[int, {...}] of a user's own loss
            adapter = _argument_adapter.__wrapped__(type_)
        adapter.validate_json(json.dumps(value, default=str))
    except ValidationError:
        return mistake(where, value, type_)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return None
    return None


@cache  # a training has a hundred keys, and a comparison a hundred trainings
def _argument_adapter(type_: Any) -> TypeAdapter:
    return TypeAdapter(type_, config=ConfigDict(strict=True, allow_inf_nan=False))
