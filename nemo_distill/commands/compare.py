"""Trains a teacher, or takes one, labels text, trains students, and evaluates them all."""

from pathlib import Path

from omegaconf import DictConfig

from nemo_distill.commands.planned_jobs import planned_problems
from nemo_distill.commands.report import ReportConfig, write_report
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.evaluation.evaluation_tables import print_evaluation
from nemo_distill.experiments.comparison import check_comparison, do_steps, evaluation_of, prepare_corpus
from nemo_distill.experiments.comparison_section import ComparisonConfig, read_comparison
from nemo_distill.report.plots import plotting_problems


def check_compare(cfg: DictConfig) -> list[str]:
    """Checks the configuration, and returns a warning if the report that it asks for cannot be written.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_comparison(cfg)
    check_plan(config)
    return [f"no report will be written; {problem}" for problem in _report_problems(config.report)]


def check_plan(config: ComparisonConfig) -> None:
    """Checks a comparison and all its jobs.

    Raises:
        ConfigurationError: with every problem found.
    """
    check_comparison(config)
    if problems := planned_problems(config):
        raise ConfigurationError(problems)


def _report_problems(wanted: bool) -> list[str]:
    return plotting_problems("it") if wanted else []


def main(cfg: DictConfig) -> None:
    check(cfg, check_compare)
    config = read_comparison(cfg)
    folder = Path(config.output_dir)
    with plain_errors(goes_on=True):
        prepare_corpus(config.corpus)
        do_steps(config)
        evaluation = evaluation_of(config)
        print_evaluation(evaluation.run(), evaluation.folder)
        if config.report and not _report_problems(config.report):
            metric, output = evaluation.main_metric, folder / "report"
            write_report(ReportConfig(runs=folder, evaluation=evaluation.folder, output_dir=output, metric=metric))
