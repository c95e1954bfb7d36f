"""Writes a model's card."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.section import read_config, rule, section
from nemo_distill.console import console
from nemo_distill.nemo_files.translation_archive import TranslationFile
from nemo_distill.report.model_card import model_card
from nemo_distill.storage.files import UserPath, file_problems, write_text


@section
class CardConfig:
    """The configuration of `card`."""

    model: TranslationFile
    """The `.nemo`."""
    run: UserPath | None = None
    """The folder of its training, with `run.json`."""
    evaluation: UserPath | None = None
    """An `evaluation.json` that includes this model, identified by its SHA-256, or its folder."""
    output: UserPath | None = None
    """The file to write; null: `student.md` next to `student.nemo`."""
    overwrite: bool = False
    """Replace an output that exists."""

    @property
    def path(self) -> Path:
        """Where the card is written."""
        return self.output or self.model.with_suffix(".md")

    def card(self) -> str:
        """Returns the card's text."""
        evaluation = self.evaluation
        if evaluation is not None and evaluation.is_dir():
            evaluation /= "evaluation.json"
        return model_card(self.model, self.run, evaluation)

    @rule
    def card_problems(self) -> list[str]:
        """Returns a sentence if the card cannot be made."""
        try:
            self.card()
        except ValueError as error:
            return [f"{error}."]
        return []

    @rule
    def output_problems(self) -> list[str]:
        """Returns a sentence if the output cannot be written, or exists and is not to be replaced."""
        return [f"output names '{self.path}', {problem}." for problem in file_problems(self.path, self.overwrite)]


def main(cfg: DictConfig) -> None:
    config = checked(cfg, partial(read_config, CardConfig))
    with plain_errors():
        write_text(config.path, config.card())
    console.info(f"wrote {config.path}")
