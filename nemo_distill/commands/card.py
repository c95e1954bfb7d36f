"""Writes a model's card."""

from pathlib import Path

from omegaconf import DictConfig

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.console import console
from nemo_distill.report.model_card import model_card, write_card


def main(cfg: DictConfig) -> None:
    check(cfg, check_card)
    with plain_errors():
        card_job(cfg)


def check_card(cfg: DictConfig) -> None:
    """Checks that the card can be written, by generating it.

    Raises:
        ConfigurationError: with every problem found.
    """
    problems = check_missing(cfg)
    if not problems:
        try:
            _card(cfg)
        except (ValueError, DataError) as error:
            problems.append(f"{error}.")
        if _output(cfg).exists() and not cfg.overwrite:
            problems.append(f"output names '{_output(cfg)}', which exists; set overwrite=true, or name another.")
    if problems:
        raise ConfigurationError(problems)


def card_job(cfg: DictConfig) -> None:
    """Writes the card of `cfg.model` to `cfg.output`, by default next to the model."""
    write_card(_output(cfg), _card(cfg))
    console.info(f"wrote {_output(cfg)}")


def _card(cfg: DictConfig) -> str:
    paths = [Path(value).expanduser() if value else None for value in (cfg.model, cfg.run, cfg.evaluation)]
    return model_card(*paths)


def _output(cfg: DictConfig) -> Path:
    return Path(cfg.output).expanduser() if cfg.output else Path(cfg.model).expanduser().with_suffix(".md")
