"""Distills a student from a teacher's .nemo."""

import tempfile

from omegaconf import DictConfig

from nemo_distill.commands.training import resumes, run_job, start_from_nemo, training_run
from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.commands.training_data import preprocess_data
from nemo_distill.commands.user_errors import checked, plain_errors, warn
from nemo_distill.experiments.sweep import job_command, run_in_sweep
from nemo_distill.models.student_config import complete_student
from nemo_distill.text.training_mix import mix_training_data


def main(cfg: DictConfig) -> dict[str, str] | None:
    if outcome := run_in_sweep(cfg, job_command("distill")):
        return outcome
    warn(checked(cfg, check_distillation_job))
    with plain_errors(resumes(cfg)), training_run(cfg) as trainer, tempfile.TemporaryDirectory() as folder:
        complete_student(cfg.model, folder)
        mix_training_data(cfg.model, folder)
        preprocess_data(cfg.model, trainer.world_size, trainer.is_global_zero)
        if not (cfg.do_training or cfg.do_testing):
            return None

        from nemo_distill import DistillableMTEncDecModel, DistillationModelPT  # slow to import: after the check
        from nemo_distill.models.scoring import warn_of_reversed_pairs

        model = DistillationModelPT(cfg.model, trainer, model_class=DistillableMTEncDecModel)
        warn_of_reversed_pairs(model, trainer)
        start_from_nemo(cfg, model.student)
        run_job(cfg, trainer, model)
    return None
