"""The words of a configuration's sentences: a value as a user types it, and what a type allows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen

PLAIN_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    bool: "true or false",
    NoneType: "null",
}
BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}


@dataclass(frozen=True)
class Allowed:
    """Goes into an `Annotated` type: says in words what the type allows, where they do not follow from it."""

    words: str


def shown(value: Any) -> str:
    """Returns a value as a user would type it; a text that looks like a number has quotes."""
    if isinstance(value, str):
        return repr(value) if value.replace(".", "", 1).lstrip("-").isdigit() else value
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def options_of(type_: Any) -> tuple[Any, ...]:
    """Returns the types of which a value may be any."""
    return get_args(type_) if get_origin(type_) in (UnionType, Union) else (type_,)


def plain_options_of(type_: Any) -> tuple[Any, ...]:
    """Returns the types of which a value may be any, without what `Annotated` adds to them."""
    return tuple(map(_plain, options_of(_plain(type_))))


def _plain(type_: Any) -> Any:
    return get_args(type_)[0] if get_origin(type_) is Annotated else type_


def mistake(where: str, value: Any, type_: Any, demands: Sequence[Any] = ()) -> str:
    """Returns the sentence about a value that its type and demands do not allow."""
    options, quotes = {*plain_options_of(type_)}, ""
    may_be_name = bool(options & {str, Path})
    if type(value) in (int, float) and may_be_name and not options & {int, float}:
        quotes = f"""; a name that is read as a number needs quotes of its own: '"{value}"'"""
    elif type(value) is bool and may_be_name:
        words = "yes and on" if value else "no and off"
        quotes = f"; in a file, YAML reads {words} as {shown(value)} unless they have quotes"
    return f"{where}={shown(value)}: must be {type_in_words(type_, demands)}{quotes}."


def type_in_words(type_: Any, demands: Sequence[Any]) -> str:
    """Says what a type and its demands allow, as in "null or a whole number of at least 1"."""
    for demand in demands:
        if isinstance(demand, Allowed):
            return demand.words
    options = sorted(options_of(type_), key=lambda option: option is not NoneType)
    return " or ".join(_option_words(option, demands) for option in options)


def is_section(value: Any) -> bool:
    """Returns whether a type or an object is a section; unlike `is_dataclass`, it narrows no type."""
    return is_dataclass(value)


def _option_words(type_: Any, demands: Sequence[Any]) -> str:
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        own = [one for demand in arguments[1:] for one in getattr(demand, "metadata", [demand])]
        return type_in_words(arguments[0], [*own, *demands])
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(shown(word) for word in arguments)
    if origin in (list, tuple):
        several = "a list that is not empty" if any(isinstance(one, MinLen) for one in demands) else "a list"
        return (
            f"{several}, of which each entry is {type_in_words(arguments[0], ())}"
            if arguments[:1] != (Any,)
            else several
        )
    if origin is dict or type_ is dict:
        return "a section"
    if is_section(type_):
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
