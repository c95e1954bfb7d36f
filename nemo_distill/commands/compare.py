"""Trains a teacher, or takes one, labels text, trains students, and evaluates them all."""

from omegaconf import DictConfig

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.evaluation.evaluation_tables import print_evaluation
from nemo_distill.experiments.comparison import check_comparison, do_steps, evaluation_of, prepare_corpus
from nemo_distill.experiments.comparison_section import read_comparison


def main(cfg: DictConfig) -> None:
    check(cfg, lambda checked: check_comparison(read_comparison(checked)))
    config = read_comparison(cfg)
    with plain_errors(goes_on=True):
        prepare_corpus(config.corpus)
        do_steps(config)
        evaluation = evaluation_of(config).run()
    print_evaluation(evaluation)
