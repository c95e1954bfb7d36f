"""Trains a translation model without a teacher: a teacher, or a baseline for students."""

from omegaconf import DictConfig

from nemo_distill.commands.training import resumes, run_job, start_from_nemo, training_run
from nemo_distill.commands.training_check import check_training
from nemo_distill.commands.training_data import preprocess_data
from nemo_distill.commands.user_errors import checked, plain_errors, warn
from nemo_distill.experiments.sweep import job_command, run_in_sweep


def main(cfg: DictConfig) -> dict[str, str] | None:
    if outcome := run_in_sweep(cfg, job_command("train")):
        return outcome
    warn(checked(cfg, check_training))
    with plain_errors(resumes(cfg)), training_run(cfg) as trainer:
        preprocess_data(cfg.model, trainer.world_size, trainer.is_global_zero)
        if not (cfg.do_training or cfg.do_testing):
            return None

        from nemo_distill import DistillableMTEncDecModel  # NeMo's import takes many seconds: after the check

        model = DistillableMTEncDecModel(cfg.model, trainer=trainer)
        start_from_nemo(cfg, model)
        run_job(cfg, trainer, model)
    return None
