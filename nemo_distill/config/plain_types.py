"""Whether a value of a configuration is of the type that a field or an argument is declared with, and its words."""

import math
from collections.abc import Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    Sequence: "a list",
    bool: "true or false",
    type(None): "null",
}


def fits(value: Any, type_: Any) -> bool:
    """True if a value is of a type, or of one of a union's; a number must be finite.

    Of types that no configuration can hold, such as those of users' own losses, nothing is said.
    """
    options = _options(type_)
    if not all(option in WORDS for option in options):
        return True
    if isinstance(value, bool):
        return bool in options
    if isinstance(value, int) and float in options:
        return True
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, str):
        return str in options
    return isinstance(value, options)


def words(type_: Any) -> str:
    """Says what a type is, for a sentence."""
    return " or ".join(WORDS[option] for option in _options(type_))


def _options(type_: Any) -> tuple[Any, ...]:
    options = get_args(type_) if get_origin(type_) in (UnionType, Union) else (type_,)
    plain = (get_origin(option) or option for option in options)
    return tuple(Sequence if option is list else option for option in plain)
