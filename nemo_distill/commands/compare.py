"""Trains a teacher, or takes one, labels text, trains students, and evaluates them all.

All jobs of a comparison are checked before the first one starts, so that no mistake ends it after hours.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nemo_distill.commands.cache_teacher import check_caching
from nemo_distill.commands.generate_pseudo_labels import check_labelling
from nemo_distill.commands.jobs import composed_job
from nemo_distill.commands.report import ReportConfig, write_report
from nemo_distill.commands.training_check import validate_distillation, validate_training
from nemo_distill.commands.user_errors import checked, plain_errors, warn
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.override_mistakes import composition_problem
from nemo_distill.config.overrides import read_override
from nemo_distill.config.wording import shown
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
PARAMS = "exp_manager.checkpoint_callback_params"
# The only values with which a training writes the .nemo that a comparison takes from its folder.
WRITING = {
    "do_training": True,
    "exp_manager.create_checkpoint_callback": True,
    f"{PARAMS}.save_nemo_on_train_end": True,
    f"{PARAMS}.dirpath": None,
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
    steps = list(plan_runs(config))
    runs = [run for run in steps if not run.is_done]
    unmade = _unmade(config, runs)
    firsts: dict[str, Run] = {}
    for run in runs:  # seeds differ in nothing that is checked
        firsts.setdefault(run.group, run)
    unwritten, composer, found = _unwritten(config, firsts.values(), steps), Composer(), dict[str, list[str]]()
    for run in firsts.values():
        own = unwritten[run.group]
        told = [*unmade, *(f"'{path}'" for path in own)]
        problems = (
            f": {problem}" for problem in _problems(run, composer) if not any(path in problem for path in told)
        )
        for problem in (*own.values(), *problems):
            found.setdefault(problem, []).append(run.group)
    return [f"{_named(config, named)}{problem}" for problem, named in found.items()]


def _unmade(config: ComparisonConfig, runs: Sequence[Run]) -> list[str]:
    """Returns the beginnings of the paths that the jobs will write, as problems name them.

    Of labels and trainings these are whole paths, of tokenizers, caches and a generated corpus also folders.
    """
    folders = [config.output_dir / name for name in (TOKENIZER, REVERSE_TOKENIZER)]
    folders += [run.folder for run in runs if run.job == "cache"]
    folders += [Path(config.corpus.folder)] if config.corpus.generate else []
    whole = [*folders, *(path for run in runs for path in run.made)]
    return [f"'{folder}/" for folder in folders] + [f"'{path}'" for path in whole]


def _unwritten(config: ComparisonConfig, runs: Iterable[Run], steps: Sequence[Run]) -> dict[str, dict[Path, str]]:
    """Returns the paths that jobs name in the folder of a step that is still to be done and does not write them.

    They are by the jobs' groups, each with the end of a sentence about it. A job's own check cannot tell: a checkpoint
    may be there until its training is done.
    """
    folders = {step.folder: step for step in steps if not step.is_done and step.job != "cache"}
    made = {path for step in steps for file in step.made for path in (file, *file.parents)}
    return {
        run.group: {
            path: f" names '{path}', which {_key(config, step.group)} does not write; it writes {_written(step)}."
            for path in sorted(run.texts_as_paths - made)
            for folder in path.parents
            if (step := folders.get(folder)) and step is not run
        }
        for run in runs
    }


def _written(step: Run) -> str:
    return ", ".join(os.path.relpath(file, step.folder) for file in step.made if file != step.folder)


class Composer:
    """Composes the configurations of jobs as `composed_job` does, but reads each choice of files once.

    Hydra takes a tenth of a second for a job, and a study has a hundred.
    """

    def __init__(self) -> None:
        self._begun = cache(composed_job)

    def composed(self, job: str, overrides: Sequence[str]) -> DictConfig:
        """Returns the configuration of a job.

        Raises:
            HydraException: if an override is wrong.
        """
        of_parts = [one for one in map(read_override, overrides) if "." in one.key_or_group]
        whole = [one for one in map(read_override, overrides) if "." not in one.key_or_group]
        # Of trainer=null and trainer.max_steps=1, the last one counts.
        in_order = {one.key_or_group for one in whole}.isdisjoint(one.key_or_group.split(".")[0] for one in of_parts)
        if in_order and not any(one.is_sweep_override() or one.is_hydra_override() for one in (*whole, *of_parts)):
            with suppress(HydraException, OmegaConfBaseException):  # which Hydra is to tell of all overrides
                # The overrides without a dot, among which are those that choose files.
                config = self._begun(job, tuple(one.input_line for one in whole)).copy()
                # There is no public way to apply overrides to a configuration as `compose` does.
                ConfigLoaderImpl._apply_overrides_to_config(of_parts, config)
                return config
        return composed_job(job, overrides)


def _problems(run: Run, composer: Composer) -> Iterator[str]:
    try:
        cfg = composer.composed(run.job, run.overrides)
        if run.model_path:
            yield from _unwritten_model(cfg)
        CHECKS[run.job](cfg)
    except ConfigurationError as error:
        yield from error.problems
    except HydraException as error:
        yield composition_problem(error)
    except OmegaConfBaseException as error:
        yield f"{error.full_key}: {str(error).splitlines()[0]}."


def _unwritten_model(cfg: DictConfig) -> Iterator[str]:
    for key, needed in WRITING.items():
        if (value := OmegaConf.select(cfg, key, default=needed)) != needed:
            yield f"{key}={shown(value)}: a comparison takes the .nemo that a training writes; leave it out."


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
    warn(checked(cfg, check_compare))
    config = read_comparison(cfg)
    with plain_errors(goes_on=True), sigterm_as_exception():
        prepare_corpus(config.corpus)
        do_steps(config)
        evaluation = evaluation_of(config)
        print_evaluation(evaluation.run(), evaluation.folder)
        if config.report and not plotting_problems("it"):
            runs, metric = config.output_dir, evaluation.main_metric
            write_report(
                ReportConfig(runs=runs, evaluation=evaluation.folder, output_dir=runs / "report", metric=metric)
            )
