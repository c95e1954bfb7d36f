"""A mixing job from its configuration."""

from omegaconf import DictConfig, OmegaConf

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.progress import print_counts, shown_progress
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import earlier_record
from nemo_distill.text.mix_section import MIX_KEYS, build_mix
from nemo_distill.text.mixing import Mix, write_mix


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


def main(cfg: DictConfig) -> None:
    check(cfg, check_mixing)
    with plain_errors():
        mix_corpora(cfg)
