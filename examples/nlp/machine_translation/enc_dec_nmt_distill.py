"""Distils a student from a teacher's .nemo. See conf/aayn_base_distill.yaml."""

import tempfile

import hydra
from omegaconf import DictConfig

from nemo_distill.data.training_mix import mix_training_data
from nemo_distill.models.mt_config import check_distillation_job, complete_student
from nemo_distill.training import build_trainer, check, plain_errors, preprocess_data, run_job, start_from_nemo


@hydra.main(version_base=None, config_path="conf", config_name="aayn_base_distill")
def main(cfg: DictConfig) -> None:
    check(cfg, check_distillation_job)
    trainer = build_trainer(cfg)
    with tempfile.TemporaryDirectory() as folder:
        complete_student(cfg.model, folder)
        with plain_errors():
            mix_training_data(cfg.model, folder)
        preprocess_data(cfg.model, trainer)
        if not (cfg.do_training or cfg.do_testing):
            return

        from nemo_distill import DistillableMTEncDecModel, DistillationModelPT  # slow to import: after the check

        model = DistillationModelPT(cfg.model, trainer, model_class=DistillableMTEncDecModel)
        start_from_nemo(cfg, model.student)
        with plain_errors():
            run_job(cfg, trainer, model)


if __name__ == "__main__":
    main()
