"""Writes a report of trainings and an evaluation, as an HTML page and PNG files."""

from pathlib import Path

from omegaconf import DictConfig, ListConfig

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.console import console
from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.page import render_page
from nemo_distill.report.plots import plotting_problems
from nemo_distill.report.runs import find_runs
from nemo_distill.report.sections import report_sections
from nemo_distill.report.sentences import reader_data
from nemo_distill.storage.files import whole_file


def check_report(cfg: DictConfig) -> None:
    """Checks that there is something to show.

    Raises:
        ConfigurationError: with every problem found.
    """
    problems = check_missing(cfg) + plotting_problems("report")
    if cfg.runs is None and cfg.evaluation is None:
        problems.append("runs and evaluation have no value; give a folder of trainings, an evaluation's, or both.")
    if cfg.runs is not None and not Path(str(cfg.runs)).is_dir():
        problems.append(f"runs names '{cfg.runs}', which is no folder.")
    if not isinstance(cfg.sentences, int) or cfg.sentences < 0:
        problems.append(f"sentences={cfg.sentences}: must be a whole number of at least 0.")
    if not cfg.curves or not isinstance(cfg.curves, ListConfig):
        problems.append(f"curves={cfg.curves}: must be a list of scalars; by the last of them trainings are compared.")
    problems += _evaluation_problems(cfg)
    if problems:
        raise ConfigurationError(problems)


def _evaluation_problems(cfg: DictConfig) -> list[str]:
    if cfg.evaluation is None:
        return []
    try:
        evaluation = Evaluation.read(Path(cfg.evaluation))
    except DataError as error:
        return [f"evaluation: {error}."]
    if cfg.metric not in evaluation.metrics:
        return [f"metric={cfg.metric}: must be one of {', '.join(evaluation.metrics)}."]
    return []


def write_report(cfg: DictConfig) -> None:
    """Writes `report.html` and its plots (`plots/NAME.png`) to `cfg.output_dir`.

    Raises:
        DataError: if an input cannot be read or is empty.
    """
    runs = find_runs(Path(cfg.runs), cfg.curves) if cfg.runs else []
    evaluation = Evaluation.read(Path(cfg.evaluation)) if cfg.evaluation else None
    if cfg.runs and not runs:
        raise DataError(
            f"'{cfg.runs}' holds no training: no run.json and no event file in it, nor in folders under it"
        )
    names = [*(evaluation.groups if evaluation else ()), *(run.name for run in runs)]
    if cfg.baseline is not None and cfg.baseline not in names:
        raise DataError(f"baseline={cfg.baseline}: must be one of {', '.join(names)}")
    sections = list(report_sections(cfg, runs, evaluation))
    sentences = reader_data(evaluation, cfg.sentences) if evaluation and cfg.sentences else None
    page = render_page(cfg.title, sections, sentences)
    folder = Path(cfg.output_dir)
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    for plot in (plot for section in sections for plot in section.plots):
        with whole_file(folder / "plots" / f"{plot.name}.png") as stream:
            stream.write(plot.png)
    with whole_file(folder / "report.html") as stream:
        stream.write(page.encode())
    console.info(str(folder / "report.html"))


def main(cfg: DictConfig) -> None:
    check(cfg, check_report)
    with plain_errors():
        write_report(cfg)
