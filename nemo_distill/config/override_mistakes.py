"""Tells what is wrong with Hydra's arguments: in one sentence each, with the keys or files that there are."""

import difflib
import re
import traceback
from collections.abc import Iterator

from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nemo_distill.config.overrides import CONF

MISTAKES = (ConfigCompositionException, OverrideParseException, SearchPathException)
UNTOLD = (IndexError, TypeError, ValueError)  # are raised where an override is none of a list, or of a group's files
NO_OPTION = "Config group override must be"
PLAIN_KEYS = "A key is given without dashes, as in 'seed=1'"
KEY = re.compile(r"[\w.+@/~]+")
PLAIN_LIST = re.compile(r"\[(?P<texts>[^][{}'\"]+)\]")
PLACE = re.compile(r"^In '\w+': |Config search path:.*", re.DOTALL)  # where Hydra looks for its files
WRONG_KEY = re.compile(r"'([^']+)'|override ([^\s'=]+)")


def mistake_behind(error: BaseException | None) -> ConfigCompositionException | None:
    """Returns the exception that Hydra has for a wrong override, for an error for which it shows a stack trace."""
    if error is None or not isinstance(error, UNTOLD):
        return None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(override := frame.f_locals.get("override"), Override):
            mistake = ConfigCompositionException(f"Error merging override {override.input_line}")
            mistake.__cause__ = error
            return mistake
    return None


def is_meant(argument: str, mistake: HydraException) -> bool:
    """Says if a mistake is one of this argument."""
    if isinstance(mistake, OverrideParseException):
        return argument == mistake.override
    is_override = argument.startswith("~") or ("=" in argument and not argument.startswith("-"))
    if not is_override or not (named := WRONG_KEY.search(_without_place(mistake))):
        return False
    key, wrong = argument.lstrip("+~").partition("=")[0].partition("@")[0], named[1] or named[2]
    return key in {wrong, wrong.rpartition("/")[0]} - {""}  # an option of a group is named group/option


def in_words(mistake: HydraException) -> str:
    """Returns what Hydra says of a mistake, in lines, with advice."""
    advice, cause = list(_advice(mistake)), mistake.__cause__
    if isinstance(mistake, OverrideParseException):
        said = str(mistake) if mistake.override in str(mistake) else f"{mistake.override}: {mistake}"
    else:
        said = " ".join(_without_place(mistake).split())
    is_explained = advice or cause is None or "To append" in said
    why = [] if is_explained else str(cause).splitlines()[:1]
    return "\n".join([said, *why, *advice])


def composition_problem(error: HydraException) -> str:
    """Returns a sentence for what Hydra says of wrong overrides, with the known keys in place of an unknown one."""
    said = " ".join(_without_place(error).split()).removesuffix(".")
    return " ".join([f"{said}.", *_advice(error)])


def _without_place(error: HydraException) -> str:
    return PLACE.sub("", str(error)).replace("\n\nAvailable", ". Available")


def _advice(mistake: BaseException) -> Iterator[str]:
    """Yields how to quote a value that Hydra cannot parse, such as `Größe.de`, or which keys or files there are."""
    if isinstance(mistake, OverrideParseException):
        yield from _quoted(*mistake.override.partition("="))
        return
    said, cause = str(mistake), mistake.__cause__
    if isinstance(mistake, MissingConfigException):
        yield from _known_files(str(mistake.missing_cfg_file), are_told="Available options" in said)
    elif str(cause).startswith(NO_OPTION) and (named := WRONG_KEY.search(said)):
        yield from _known_files(f"{named[1] or named[2]}/")
    elif isinstance(cause, UNTOLD):
        yield "A list is given whole, as in 'metrics=[BLEU,chrF]', a section key by key, as in 'search.beam_size=4'."
    else:
        yield from _known_keys(cause)


def _known_files(path: str, are_told: bool = False) -> Iterator[str]:
    """Yields the file that may be meant by `name` or `group/name`, and all of a group, unless they are told before."""
    group, _, name = path.rpartition("/")
    names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    if closest := difflib.get_close_matches(name, names, n=1):
        yield f"Did you mean '{closest[0]}'?"
    if group and names and not are_told:
        yield f"{group} is one of {', '.join(names)}."


def _quoted(key: str, equals: str, value: str) -> Iterator[str]:
    if not equals:
        yield f"{PLAIN_KEYS}, and without spaces around the equals sign."
    if not equals or not KEY.fullmatch(key):
        return
    if value.startswith(("[", "{")) and value.endswith((",", ":")):
        yield "The shell has split it at a space: put quotes around the whole argument."
    elif listed := PLAIN_LIST.fullmatch(value):
        texts = ",".join(f'"{text.strip()}"' for text in listed["texts"].split(","))
        yield f"Texts with such characters need quotes of their own: '{key}=[{texts}]'"
    elif not value.startswith(tuple("[{'\"")):
        yield f"""A text with such characters needs quotes of its own: '{key}="{value}"'"""


def _known_keys(error: BaseException | None) -> Iterator[str]:
    """Yields the key that Hydra's user may have meant, and all of its section, if the error is of an unknown key."""
    from nemo_distill.config.known_keys import OF_SECTIONS  # with pydantic, which takes as long as Hydra itself

    if not isinstance(error, OmegaConfBaseException) or not isinstance(error.parent_node, DictConfig):
        return
    key, place = str(error.key), (error.full_key or "").rpartition(".")[0]
    keys = {str(key): str(key) for key in error.parent_node if key != "hydra"}
    more = {name: f"+{place}.{name}" for name in OF_SECTIONS.get(place, ()) if name not in keys}
    if not keys:
        return
    if key in more:
        yield "There is such a key, but this configuration does not have it; the plus adds it."
        return
    if closest := difflib.get_close_matches(key, [*keys, *more], n=1):
        yield f"Did you mean '{(keys | more)[closest[0]]}'?"
    yield f"The keys {f'of {place}' if place else 'here'} are {', '.join(sorted(keys))}."
