"""Scores, compares and times models on test sets. See conf/evaluate.yaml."""

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.evaluate import check_evaluation, evaluation_job
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.evaluation.evaluation_tables import print_evaluation, write_evaluation


@hydra_main("conf", "evaluate")
def main(cfg: DictConfig) -> None:
    check(cfg, check_evaluation)
    job = evaluation_job(cfg)
    with plain_errors(goes_on=True):
        evaluation = job.run()
        write_evaluation(evaluation, job.folder)
    print_evaluation(evaluation)


if __name__ == "__main__":
    main()
