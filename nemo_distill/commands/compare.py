"""Trains a teacher, or takes one, labels text, trains students, and evaluates them all.

All jobs of a comparison are checked before the first one starts, so that no mistake ends it after hours.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nemo_distill.commands.cache_teacher import check_caching
from nemo_distill.commands.generate_pseudo_labels import check_labelling
from nemo_distill.commands.jobs import composed_job, composition_problem
from nemo_distill.commands.report import ReportConfig, write_report
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.commands.training_check import validate_distillation, validate_training
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import sigterm_as_exception
from nemo_distill.evaluation.evaluation_tables import print_evaluation
from nemo_distill.experiments.comparison import check_comparison, do_steps, evaluation_of, prepare_corpus
from nemo_distill.experiments.comparison_plan import REVERSE_TOKENIZER, TOKENIZER, Run, plan_runs
from nemo_distill.experiments.comparison_section import ComparisonConfig, read_comparison
from nemo_distill.report.plots import plotting_problems

CHECKS: Mapping[str, Callable[[DictConfig], object]] = {
    "train": validate_training,
    "distill": validate_distillation,
    "label": check_labelling,
    "cache": check_caching,
}
SHOWN_JOBS = 3


def check_compare(cfg: DictConfig) -> list[str]:
    """Checks the configuration, and returns a warning if the report that it asks for cannot be written.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_comparison(cfg)
    check_plan(config)
    problems = plotting_problems("it") if config.report else []
    return [f"no report will be written; {problem}" for problem in problems]


def check_plan(config: ComparisonConfig) -> None:
    """Checks a comparison and all its jobs.

    Raises:
        ConfigurationError: with every problem found.
    """
    check_comparison(config)
    if problems := _planned_problems(config):
        raise ConfigurationError(problems)


def _planned_problems(config: ComparisonConfig) -> list[str]:
    """Returns a sentence for each mistake in the configuration of a job that is still to be done.

    Each is composed and checked as the job itself does it. What earlier jobs will write is not there yet, so problems
    that name one of their paths are left to the job.
    """
    runs = [run for run in plan_runs(config) if not run.is_done]
    unmade = _unmade(config, runs)
    firsts: dict[str, Run] = {}
    for run in runs:  # seeds differ in nothing that is checked
        firsts.setdefault(run.group, run)
    found: dict[str, list[str]] = {}
    for run in firsts.values():
        for problem in _problems(run):
            if not any(path in problem for path in unmade):
                found.setdefault(problem, []).append(run.group)
    return [f"{_named(config, named)}: {problem}" for problem, named in found.items()]


def _unmade(config: ComparisonConfig, runs: Sequence[Run]) -> list[str]:
    """Returns the paths that the jobs will write, or folders of them."""
    folders = [run.folder for run in runs]
    folders += [Path(config.output_dir) / name for name in (TOKENIZER, REVERSE_TOKENIZER)]
    paths = [f"{folder}/" for folder in folders]
    paths += [f"'{path}'" for path in (*folders, *(path for run in runs for path in run.made))]
    return paths + ([f"{config.corpus.folder}/"] if config.corpus.generate else [])


def _problems(run: Run) -> Iterator[str]:
    try:
        CHECKS[run.job](composed_job(run.job, run.overrides))
    except ConfigurationError as error:
        yield from error.problems
    except HydraException as error:
        yield composition_problem(error)
    except OmegaConfBaseException as error:
        yield f"{error.full_key}: {str(error).splitlines()[0]}."


def _named(config: ComparisonConfig, groups: Sequence[str]) -> str:
    """Returns the keys of some jobs, such as `methods.hybrid`."""
    names = [_key(config, group) for group in groups[:SHOWN_JOBS]]
    more = len(groups) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _key(config: ComparisonConfig, group: str) -> str:
    for kind, prefix in (("labels", "labels_"), ("caches", "cache_")):
        if group.startswith(prefix) and group.removeprefix(prefix) in getattr(config, kind):
            return f"{kind}.{group.removeprefix(prefix)}"
    kinds = (kind for kind in ("baselines", "methods") if group in getattr(config, kind))
    return next((f"{kind}.{group}" for kind in kinds), group)


def main(cfg: DictConfig) -> None:
    check(cfg, check_compare)
    config = read_comparison(cfg)
    with plain_errors(goes_on=True), sigterm_as_exception():
        prepare_corpus(config.corpus)
        do_steps(config)
        evaluation = evaluation_of(config)
        print_evaluation(evaluation.run(), evaluation.folder)
        if config.report and not plotting_problems("it"):
            runs, metric = Path(config.output_dir), evaluation.main_metric
            write_report(
                ReportConfig(runs=runs, evaluation=evaluation.folder, output_dir=runs / "report", metric=metric)
            )
