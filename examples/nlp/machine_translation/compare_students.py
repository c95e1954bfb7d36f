"""Trains a teacher, or takes one, labels text, trains students, and prints how they compare. See conf/demo.yaml."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.experiments.comparison import check_comparison, compare, prepare_corpus
from nemo_distill.experiments.results_table import print_results, write_results


@hydra_main("conf", "demo")
def main(cfg: DictConfig) -> None:
    scripts = Path(__file__).parent
    check(cfg, partial(check_comparison, scripts=scripts))
    with plain_errors(goes_on=True):
        prepare_corpus(cfg.corpus)
        results = compare(cfg, scripts)
        write_results(results, Path(cfg.output_dir))
    print_results(results)


if __name__ == "__main__":
    main()
