"""Writes a report of trainings and an evaluation, as an HTML page and PNG files."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig
from pydantic import Field

from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.errors import DataError
from nemo_distill.config.section import read_config, rule, section
from nemo_distill.console import console
from nemo_distill.evaluation.explanation_tables import read_explanation
from nemo_distill.evaluation.verdict import verdict_sentences
from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.plots import plotting_problems
from nemo_distill.report.runs import find_runs
from nemo_distill.report.sections import render_page, report_sections
from nemo_distill.report.sentences import reader_data, tokenization
from nemo_distill.storage.files import UserPath, whole_file, write_text
from nemo_distill.text.languages import tokenizer_problems


@section
class ReportConfig:
    """The configuration of `report`."""

    runs: UserPath | None = None
    """A folder; all trainings in it and in its folders are shown."""
    evaluation: UserPath | None = None
    """The folder of an `evaluation.json`."""
    explanation: UserPath | None = None
    """The folder of an `explanation.json`, which `explain` wrote."""
    output_dir: UserPath = Path("report")
    """An earlier report in it is overwritten."""
    title: str = "Distilled translation models"
    """Of the page."""
    metric: str = "BLEU"
    """Of the fronts, and of a sweep whose models were all evaluated."""
    baseline: str | None = None
    """A group of systems, or a training of `runs`; null: what the evaluation compared with."""
    sentences: int = Field(default=200, ge=0)
    """In the reader, for each student and test set those on which it falls shortest, and as many with each kind of
    failure; 0: no reader."""
    curves: list[str] = Field(default=["train_loss", "val_loss", "val_sacreBLEU"], min_length=1)
    """What was logged; the last one's best value is a training's score."""

    @rule
    def package_problems(self) -> list[str]:
        """Returns a sentence if what plots need is not installed."""
        return plotting_problems("report")

    @rule
    def runs_problems(self) -> list[str]:
        """Returns a sentence if there is nothing to show."""
        if self.runs is None and self.evaluation is None and self.explanation is None:
            return ["runs, evaluation and explanation have no value; give the folder of at least one."]
        if self.runs is not None and not self.runs.is_dir():
            return [f"runs names '{self.runs}', which is no folder."]
        return []

    @rule
    def evaluation_problems(self) -> list[str]:
        """Returns a sentence if the evaluation cannot be read, or lacks the metric."""
        if self.evaluation is None:
            return []
        try:
            evaluation = Evaluation.read(self.evaluation)
        except DataError as error:
            return [f"evaluation={self.evaluation}: {error}."]
        if self.metric not in evaluation.metrics:
            return [f"metric={self.metric}: must be one of {', '.join(evaluation.metrics)}."]
        return self._tokenizer_problems(evaluation)

    @rule
    def explanation_problems(self) -> list[str]:
        """Returns a sentence if the explanation cannot be read."""
        if self.explanation is None:
            return []
        try:
            read_explanation(self.explanation)
        except DataError as error:
            return [f"explanation={self.explanation}: {error}."]
        return []

    def _tokenizer_problems(self, evaluation: Evaluation) -> list[str]:
        """Returns a sentence for each package that the reader's sentence BLEU needs, as the evaluation did."""
        systems = [of_system for one in evaluation.test_sets.values() for of_system in one["scores"].values()]
        wanted = sorted(set(map(tokenization, systems))) if self.sentences else []
        where = f"sentences={self.sentences}"
        return [problem for name in wanted for problem in tokenizer_problems(where, name, "; or set sentences=0")]


def write_report(config: ReportConfig) -> None:
    """Writes `report.html`, and each of its plots as `plots/NAME.png`, into the output's folder.

    Raises:
        DataError: if an input cannot be read or is empty.
    """
    runs = find_runs(config.runs, config.curves) if config.runs else []
    evaluation = Evaluation.read(config.evaluation) if config.evaluation else None
    if config.runs and not runs:
        raise DataError(
            f"'{config.runs}' holds no training: no run.json and no event file in it, nor in folders under it"
        )
    names = [*(evaluation.groups if evaluation else ()), *(run.name for run in runs)]
    if config.baseline is not None and config.baseline not in names:
        raise DataError(f"baseline={config.baseline}: must be one of {', '.join(names)}")
    sentences = reader_data(evaluation, config.sentences) if evaluation and config.sentences else None
    shown = config.metric, config.baseline, config.curves, sentences is not None
    explanation = read_explanation(config.explanation) if config.explanation else None
    sections = list(report_sections(runs, evaluation, *shown, explanation=explanation))
    verdict = list(verdict_sentences(evaluation.record)) if evaluation else []
    page = render_page(config.title, verdict, sections, sentences)
    folder = config.output_dir
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for plot in (plot for part in sections for plot in part.plots):
        with whole_file(folder / "plots" / f"{plot.name}.png") as stream:
            stream.write(plot.png)
    write_text(folder / "report.html", page)
    console.info(str(folder / "report.html"))


def main(cfg: DictConfig) -> None:
    config = checked(cfg, partial(read_config, ReportConfig))
    with plain_errors():
        write_report(config)
