"""Runs a teacher over the training pairs once, for trainings that need it no more. See conf/cache_teacher.yaml."""

import tempfile

from omegaconf import DictConfig

from nemo_distill.commands.cache_teacher import cache_teacher, caching_job, check_caching
from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.text.training_mix import mix_training_data


@hydra_main("conf", "cache_teacher")
def main(cfg: DictConfig) -> None:
    check(cfg, check_caching)
    job = caching_job(cfg)

    from nemo_distill.pseudo_labels.processes import processes  # Lightning's import takes seconds: after the check

    trainer = cfg.trainer
    where = (trainer.accelerator, trainer.devices, trainer.num_nodes)
    with plain_errors(goes_on=True), processes(*where) as process, tempfile.TemporaryDirectory() as folder:
        mix_training_data(cfg.model, folder)
        job = job.reading(cfg.model.train_ds)
        cache_teacher(job, process.rank, process.world_size, process.device)


if __name__ == "__main__":
    main()
