"""The section of a configuration that describes a mix of corpora."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_distill.config.checks import suggestion
from nemo_distill.config.plain_types import fits
from nemo_distill.config.typed_section import build_section
from nemo_distill.text.files import named_files
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.mixing import Corpus, Mix

CORPUS_KEYS = ("source", "target", "share", "fraction")


MIX_KEYS = ("corpora", "seed", "lines", "base", "reading")


def build_mix(section: Mapping[str, Any], output: Path) -> tuple[Mix, list[str]]:
    """Returns the mix that a section of `MIX_KEYS` describes, and its problems, a sentence each.

    Args:
        section: resolved, with every value that it must have.
        output: what the names of the mix's files begin with.
    """
    policy, problems = build_section(LinePolicy, section["reading"], "reading")
    if not isinstance(section["corpora"], Mapping):
        problems.append(f"corpora={section['corpora']}: must be a section of corpora by name.")
        return Mix({}, output, policy), problems
    corpora = {}
    for name, corpus in section["corpora"].items():
        corpora[name], found = _corpus(f"corpora.{name}", corpus)
        problems += found
    mix = Mix(corpora, output, policy, section["seed"], section["lines"], section["base"])
    return mix, problems + _mix_problems(mix)


def _corpus(where: str, section: Any) -> tuple[Corpus | None, list[str]]:
    if not isinstance(section, Mapping):
        return None, [f"{where}={section}: must be a section with {', '.join(CORPUS_KEYS)}."]
    problems = [
        f"{where} has the unknown key '{key}'{suggestion(key, CORPUS_KEYS)}."
        for key in section
        if key not in CORPUS_KEYS
    ]
    files = {}
    for key in ("source", "target"):
        files[key], found = named_files(f"{where}.{key}", section.get(key))
        problems += found or ([] if files[key] else [f"{where}.{key} has no value; give it."])
    if len(files["source"]) != len(files["target"]):
        counts = f"{len(files['source'])} source files and {len(files['target'])} target files"
        problems.append(f"{where} has {counts}; they go in pairs.")
    share, fraction = section.get("share"), section.get("fraction", 1.0)
    if not fits(share, float) or share <= 0:
        problems.append(f"{where}.share={share}: must be a number above 0.")
    if not fits(fraction, float) or not 0 < fraction <= 1:
        problems.append(f"{where}.fraction={fraction}: must be a number above 0 and at most 1.")
    return Corpus(files["source"], files["target"], share, fraction), problems


def _mix_problems(mix: Mix) -> list[str]:
    problems = [] if mix.corpora else ["corpora names no corpus; give at least one."]
    if not fits(mix.seed, int):
        problems.append(f"seed={mix.seed}: must be a whole number.")
    if mix.lines is not None and (not fits(mix.lines, int) or mix.lines < 1):
        problems.append(f"lines={mix.lines}: must be null or a whole number of at least 1.")
    if mix.base is not None and mix.base not in list(mix.corpora):
        problems.append(f"base={mix.base}: must be null or one of {', '.join(map(str, mix.corpora))}.")
    if mix.base is not None and mix.lines is not None:
        problems.append(f"base={mix.base} and lines={mix.lines} both say how long the mix is; give one.")
    return problems
