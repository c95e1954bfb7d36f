"""Runs the study's experiments, and writes their tables and the verdicts on its claims. See conf/study.yaml."""

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from verdicts import study_markdown, study_models, study_plots, study_problems, unclaimed_models

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import console
from nemo_distill.experiments.comparison import check_comparison, compare, finished_results
from nemo_distill.experiments.comparison_plan import plan_runs
from nemo_distill.experiments.results_table import write_results
from nemo_distill.report.plots import plotting_problems
from nemo_distill.storage.files import whole_file
from nemo_distill.storage.made_with import made_with


@hydra_main("study", Path(__file__).parents[1] / "conf")
def main(cfg: DictConfig) -> None:
    folder = Path(cfg.output_dir)
    check(cfg, check_study)
    experiments = OmegaConf.to_container(cfg.experiments, resolve=True)
    with plain_errors(goes_on=True):
        results = (finished_results if cfg.report_only else compare)(cfg)
        write_results(results, folder)
        threads = torch.get_num_threads()
        page = study_markdown(experiments, results, cfg.introduction, made_with("cpu", threads))
        plots = {f"{plot.name}.png": plot.png for plot in study_plots(experiments, results)}
        for name, content in {**plots, "study.md": page.encode()}.items():
            with whole_file(folder / name) as file:
                file.write(content)
    console.info(str(folder / "study.md"))


def check_study(cfg: DictConfig) -> None:
    """Checks the study, and gives its config the plan of a comparison."""
    experiments = OmegaConf.to_container(cfg.experiments, resolve=True)
    with open_dict(cfg):
        cfg.methods = study_models(experiments)
        unclaimed = unclaimed_models(experiments, [*cfg.baselines, *cfg.methods])
        cfg.one_seed = unclaimed if cfg.repeated == "claimed" else []
    problems = check_missing(cfg) + plotting_problems("study.py") + study_problems(experiments, list(cfg.baselines))
    if cfg.repeated not in ("claimed", "all"):
        problems.append(f"repeated={cfg.repeated}: must be one of claimed, all.")
    if not problems and cfg.report_only and not next(plan_runs(cfg)).is_done:
        problems.append(f"report_only=true, but output_dir={cfg.output_dir} holds no teacher that has been trained.")
    if problems:
        raise ConfigurationError(problems)
    check_comparison(cfg)


if __name__ == "__main__":
    main()
