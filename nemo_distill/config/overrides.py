"""Overrides, as Hydra reads them: `key=value`, of which some values need quotes of their own."""

import json
import os
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parents[1] / "conf"  # the folder of all jobs' configurations
HOME = re.compile(r"(?:^|(?<=[=,\[])|(?<=: ))~(?=/)")


@cache
def read_override(override: str) -> Override:
    """Returns an override as Hydra reads it.

    Raises:
        OverrideParseException: if Hydra could not read it.
    """
    (found,) = OverridesParser.create().parse_overrides([override])
    return found


@cache
def parsed(override: str) -> tuple[str, Any]:
    """Returns an override's key and its value; None is the value of one that deletes.

    Raises:
        OverrideParseException: if Hydra could not read it.
    """
    found = read_override(override)
    return found.key_or_group, found.value()


def path_override(key: str, path: Path | str) -> str:
    """Returns the override that sets a key to a path, in quotes if Hydra would read it as something else."""
    plain = f"{key}={path}"
    is_read = is_readable(plain) and parsed(plain)[1] == str(path)
    return plain if is_read else f"{key}={json.dumps(str(path), ensure_ascii=False)}"


def typed(key: str, path: Path | str) -> str:
    """Returns the override that sets a key to a path, with the quotes that a shell needs where it is typed."""
    return shlex.quote(path_override(key, path))


def is_readable(text: str) -> bool:
    """True if Hydra can read a text as an override."""
    try:
        parsed(text)
    except OverrideParseException:
        return False
    return True


def with_home(value: Any) -> Any:
    """Returns a value, or a list or section of values, with the path of the user's home for `~/`."""
    if isinstance(value, str):
        return HOME.sub(lambda _: os.path.expanduser("~"), value)
    if isinstance(value, dict):
        return {key: with_home(part) for key, part in value.items()}
    return [with_home(part) for part in value] if isinstance(value, list) else value


def config_with_home(cfg: DictConfig) -> DictConfig:
    """Returns a composed config with the path of the user's home for `~/`, also where other values refer to it."""
    values = OmegaConf.to_container(cfg, resolve=False)
    at_home = with_home(values)
    return cfg if at_home == values else OmegaConf.create(at_home, flags={"struct": True})
