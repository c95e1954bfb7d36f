"""Trains a teacher or takes an existing one, labels text, trains students, and compares them."""

from pathlib import Path

from omegaconf import DictConfig

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.experiments.comparison import check_comparison, compare, prepare_corpus
from nemo_distill.experiments.results_table import print_results, write_results


def main(cfg: DictConfig) -> None:
    check(cfg, check_comparison)
    with plain_errors(goes_on=True):
        prepare_corpus(cfg.corpus)
        results = compare(cfg)
        write_results(results, Path(cfg.output_dir))
    print_results(results)
