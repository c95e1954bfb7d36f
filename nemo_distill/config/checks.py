"""Checks for any configuration: missing mandatory values, and suggestions for misspelled keys."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

MISSING = "???"  # in a config file: a key that must be given


def listing(names: Collection[str]) -> str:
    """Returns the names in alphabetical order, separated by commas, or "none"."""
    return ", ".join(sorted(names)) or "none"


def suggestion(key: str, known: Collection[str]) -> str:
    """Returns "; the closest known key is 'x'", or "; known are ..." if no key is similar."""
    close = difflib.get_close_matches(str(key), list(known), n=1)
    return f"; the closest known key is '{close[0]}'" if close else f"; known are {listing(known)}"


def check_missing(cfg: DictConfig) -> list[str]:
    """Returns a sentence for each mandatory key (`???` in the config file) that has no value."""
    problems = []
    # `OmegaConf.missing_keys` stops at the first list with a missing value.
    parts = walked(OmegaConf.to_container(cfg, resolve=False))
    for key in sorted(key for key, _, value in parts if value == MISSING):
        section = key.rpartition(".")[0]
        remedy = f"; give it, or leave the section out with '~{section}'" if section.endswith("_ds") else "; give it"
        problems.append(f"{key} has no value{remedy}.")
    return problems


def walked(node: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields all parts of a section or list, at any depth: the whole key, its last part, and the value."""
    for name, value in parts_of(node):
        key = key_of(where, name)
        yield key, name, value
        yield from walked(value, key)


def parts_of(value: Any) -> Iterable[tuple[Any, Any]]:
    """Returns the keys and values of a section, or the numbers and entries of a list; of other values nothing."""
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, (list, tuple)) else ()


def key_of(where: str, name: Any) -> str:
    """Returns the key of a part of the value at `where`, as the user types it."""
    if isinstance(name, int):
        return f"{where}[{name}]"
    return f"{where}.{name}" if where else str(name)
