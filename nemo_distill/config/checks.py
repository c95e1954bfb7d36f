"""Checks for any configuration: missing mandatory values, and suggestions for misspelled keys."""

import difflib
from collections.abc import Collection, Iterator, Mapping
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
    for key in sorted(_missing_keys(OmegaConf.to_container(cfg, resolve=False))):
        section = key.rpartition(".")[0]
        remedy = f"; give it, or leave the section out with '~{section}'" if section.endswith("_ds") else "; give it"
        problems.append(f"{key} has no value{remedy}.")
    return problems


def _missing_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Does the same as `OmegaConf.missing_keys`, which stops at the first list with a missing value."""
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        name = f"{prefix}[{key}]" if isinstance(node, list) else f"{prefix}.{key}" if prefix else str(key)
        if value == MISSING:
            yield name
        yield from _missing_keys(value, name)
