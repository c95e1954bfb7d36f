"""A mixing job from its configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_distill.core.config import ConfigurationError, check_missing, suggestion
from nemo_distill.core.plain_types import fits
from nemo_distill.core.typed_section import build_section
from nemo_distill.data.mixing import Corpus, Mix, write_mix
from nemo_distill.data.output_files import earlier_record
from nemo_distill.data.progress import print_counts, shown_progress
from nemo_distill.data.text_files import named_files
from nemo_distill.data.text_lines import DataError, LinePolicy, user_path

CORPUS_KEYS = ("source", "target", "share", "fraction")
MIX_KEYS = ("corpora", "seed", "lines", "base", "reading")


def check_mixing(cfg: DictConfig) -> None:
    """Checks the configuration, and that no mix of other settings is in the way.

    Raises:
        ConfigurationError: with every problem found.
    """
    mix = mixing_job(cfg)
    remedy = "give another name, or replace it with overwrite=true"
    try:
        record = earlier_record(mix.path("json"), mix.settings(), cfg.overwrite)
    except DataError as error:
        raise ConfigurationError([f"output: {error}; {remedy}."]) from error
    there = [path for path in (mix.path("src"), mix.path("tgt")) if path.exists()]
    if there and not record and not cfg.overwrite:
        raise ConfigurationError([f"output: '{path}' is there, and no record of a mix; {remedy}." for path in there])


def mixing_job(cfg: DictConfig) -> Mix:
    """Returns the mix that a configuration describes.

    Raises:
        ConfigurationError: with every problem found.
    """
    values = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    if problems := check_missing(cfg):
        raise ConfigurationError(problems)
    mix, problems = build_mix({key: values[key] for key in MIX_KEYS}, user_path(values["output"]))
    if problems := problems or _overwritten(mix):
        raise ConfigurationError(problems)
    return mix


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


def _overwritten(mix: Mix) -> list[str]:
    if not mix.output.name:
        return [f"output={mix.output}: must be what the names of files begin with."]
    written = {mix.path(ending).resolve() for ending in ("src", "tgt", "json")}
    read = [path for corpus in mix.corpora.values() for path in (*corpus.sources, *corpus.targets)]
    return [f"output={mix.output} would overwrite '{path}'." for path in read if path.resolve() in written]


def mix_corpora(cfg: DictConfig) -> None:
    """Writes the mix that a checked configuration describes, and prints what is in it."""
    mix = mixing_job(cfg)
    mix.output.parent.mkdir(parents=True, exist_ok=True)
    with shown_progress("mixing", 1.0) as on_progress:
        record = write_mix(mix, cfg.overwrite, lambda line, lines: on_progress(line / lines, 1))
    counts = {name: part["lines"] for name, part in record["corpora"].items()}
    print_counts(f"{mix.path('src')} and {mix.path('tgt').name}", counts, record["lines"])
