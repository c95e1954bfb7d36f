"""Trains a translation model on its own: a teacher, or the baseline of a student. See conf/aayn_base.yaml."""

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.training import (
    check,
    plain_errors,
    preprocess_data,
    resumes,
    run_job,
    start_from_nemo,
    training_run,
)
from nemo_distill.commands.training_check import check_training
from nemo_distill.experiments.sweep import run_in_sweep


@hydra_main("conf", "aayn_base")
def main(cfg: DictConfig) -> dict[str, str] | None:
    if outcome := run_in_sweep(cfg, __file__):
        return outcome
    check(cfg, check_training)
    with plain_errors(resumes(cfg)), training_run(cfg) as trainer:
        preprocess_data(cfg.model, trainer)
        if not (cfg.do_training or cfg.do_testing):
            return

        from nemo_distill import DistillableMTEncDecModel  # NeMo's import takes many seconds: after the check

        model = DistillableMTEncDecModel(cfg.model, trainer=trainer)
        start_from_nemo(cfg, model)
        run_job(cfg, trainer, model)


if __name__ == "__main__":
    main()
