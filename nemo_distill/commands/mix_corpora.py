"""Mixes real and pseudo-labelled text in given proportions."""

from omegaconf import DictConfig
from pydantic import Field

from nemo_distill.commands.user_errors import check_output, checked, plain_errors, warn
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config, section
from nemo_distill.progress import print_counts, shown_progress
from nemo_distill.storage.files import UserPath
from nemo_distill.text.files import copies
from nemo_distill.text.mix_section import MixSection
from nemo_distill.text.mixing import ENDINGS, Mix, write_mix


@section
class MixingConfig(MixSection):
    """The configuration of `mix`."""

    output: UserPath = Field(kw_only=True)
    """The prefix of the output files: `mixed` gives `mixed.src`, `mixed.tgt` and the record `mixed.json`, and with
    `weighting=loss` also `mixed.weights`."""
    overwrite: bool = False
    """Replace a mix with other settings."""


def check_mixing(cfg: DictConfig) -> Mix:
    """Returns the mix of a configuration, after checking that the output is not a mix with other settings.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_config(MixingConfig, cfg)
    mix = config.build(config.output)
    if problems := config.missing() or _overwritten(mix):
        raise ConfigurationError(problems)
    texts = [mix.path(ending) for ending in ENDINGS if ending != "json"]  # weights too, which any mix deletes
    check_output(mix.work, texts, config.overwrite, "mix", "name")
    return mix


def _overwritten(mix: Mix) -> list[str]:
    if not mix.output.name:
        return [f"output={mix.output}: must be what the names of files begin with."]
    written = {mix.path(ending).resolve() for ending in ENDINGS}
    read = [path for corpus in mix.corpora.values() for path in (*corpus.sources, *corpus.targets, *corpus.weights)]
    return [f"output={mix.output} would overwrite '{path}'." for path in read if path.resolve() in written]


def mix_corpora(mix: Mix, overwrite: bool) -> None:
    """Writes a mix and prints its counts."""
    mix.output.parent.mkdir(parents=True, exist_ok=True)
    with shown_progress("mixing", 1.0) as on_progress:
        record = write_mix(mix, overwrite, lambda line, lines: on_progress(line / lines, 1))
    counts = {name: part["lines"] for name, part in record["corpora"].items()}
    print_counts(f"{mix.path('src')} and {mix.path('tgt').name}", counts, record["lines"])


def main(cfg: DictConfig) -> None:
    mix = checked(cfg, check_mixing)
    for name, corpus in mix.corpora.items():
        warn(copies(f"corpora.{name}", corpus.sources, corpus.targets))
    with plain_errors():
        mix_corpora(mix, cfg.overwrite)
