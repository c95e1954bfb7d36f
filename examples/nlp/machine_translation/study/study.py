"""Runs the study's experiments, and writes their tables and the verdicts on its claims. See conf/study.yaml."""

from pathlib import Path
from typing import Literal

from experiments import Experiment, study_models, study_problems, unclaimed_models
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import Field
from verdicts import METRIC, study_markdown, study_plots

from nemo_distill.commands.compare import check_plan
from nemo_distill.commands.jobs import hydra_main
from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config, read_value, section
from nemo_distill.console import console, sigterm_as_exception
from nemo_distill.experiments.comparison import check_comparison, do_steps, evaluation_of
from nemo_distill.experiments.comparison_plan import plan_runs
from nemo_distill.experiments.comparison_section import ComparisonConfig, with_plain_folder
from nemo_distill.report.plots import plotting_problems
from nemo_distill.storage.files import whole_file

# Keys of a comparison that a study does not read, and what to do instead.
UNREAD = {
    "methods": "the models of a study are the methods of its experiments; add them there",
    "one_seed": "models that no claim compares have one seed; repeated=all gives seeds to all",
    "report": "a study writes study.md; nemo-distill report makes a page of its folders",
    "corpus.generate": "a study reads text that is there; leave it null",
}


@section
class StudyConfig(ComparisonConfig):
    """A comparison with experiments, whose models are its methods, and claims about them."""

    experiments: dict[str, Experiment] = Field(kw_only=True)
    """The tables of the page, with the models and the claims of each."""
    title: str = "The study, repeated at a small scale"
    """Of the page."""
    introduction: str = ""
    """Of the page, as Markdown."""
    repeated: Literal["claimed", "all"] = "claimed"
    """The models that have all seeds: those that some claim compares, or all; the others have the first."""
    report_only: bool = False
    """Write the tables of what has been trained so far, and do nothing else."""

    def problems(self) -> list[str]:
        """Returns a sentence for each rule that several keys break."""
        metrics, problems = self.evaluation.metrics, super().problems()
        if METRIC not in metrics:
            problems.append(f"evaluation.metrics={metrics}: a study's verdicts need {METRIC}; add it.")
        return problems + study_problems(self.experiments, list(self.baselines))


@hydra_main("study", Path(__file__).parents[1] / "conf")
def main(cfg: DictConfig) -> None:
    checked(cfg, lambda found: check_study(read_study(found)))
    config = read_study(cfg)
    with plain_errors(goes_on=True), sigterm_as_exception():
        if not config.report_only:
            do_steps(config)
        evaluation = evaluation_of(config).run()
        page = study_markdown(config.experiments, evaluation, config.introduction, config.title)
        plots = {f"{plot.name}.png": plot.png for plot in study_plots(config.experiments, evaluation)}
        for name, content in {**plots, "study.md": page.encode()}.items():
            with whole_file(config.output_dir / name) as file:
                file.write(content)
    console.info(f"{config.output_dir}/study.md")


def read_study(cfg: DictConfig) -> StudyConfig:
    """Returns the study that a configuration describes, with the plan of a comparison.

    Raises:
        ConfigurationError: with every problem found.
    """
    unread = [f"{key} has no effect here: {instead}." for key, instead in UNREAD.items() if OmegaConf.select(cfg, key)]
    try:
        config = read_config(StudyConfig, _planned(with_plain_folder(cfg)), other_keys=True)
    except ConfigurationError as error:
        raise ConfigurationError([*unread, *error.problems]) from error
    if unread:
        raise ConfigurationError(unread)
    return config


def _planned(cfg: DictConfig) -> DictConfig:
    """Returns the configuration with the models of the experiments as methods, or with none if these are wrong."""
    given, baselines, planned = cfg.get("experiments"), cfg.get("baselines"), cfg.copy()
    values = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else given
    experiments = read_value(dict[str, Experiment], values, "experiments")[0] or {}
    with open_dict(planned):
        planned.methods = study_models(experiments)
        names = [*(baselines if isinstance(baselines, DictConfig) else ()), *planned.methods]
        unclaimed = unclaimed_models(experiments, names)
        planned.one_seed = [] if cfg.get("repeated") == "all" else unclaimed
    return planned


def check_study(config: StudyConfig) -> None:
    """Checks what a comparison needs, and what the page needs.

    Raises:
        ConfigurationError: with every problem found.
    """
    problems = plotting_problems("study.py")
    if config.report_only and not next(plan_runs(config)).is_done:
        problems.append(f"report_only=true, but output_dir={config.output_dir} holds no trained teacher.")
    if problems:
        raise ConfigurationError(problems)
    (check_comparison if config.report_only else check_plan)(config)


if __name__ == "__main__":
    main()
