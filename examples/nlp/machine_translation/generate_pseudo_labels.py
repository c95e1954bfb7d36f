"""Translates text with a teacher and writes the pairs that are worth learning from. See its config in conf/."""

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.generate_pseudo_labels import check_labelling, labelling_job, translate, write_text
from nemo_distill.commands.training import check, plain_errors


@hydra_main("conf", "generate_pseudo_labels")
def main(cfg: DictConfig) -> None:
    check(cfg, check_labelling)
    job = labelling_job(cfg)

    from nemo_distill.pseudo_labels.processes import processes  # Lightning's import takes seconds: after the check

    with plain_errors(goes_on=True), processes(cfg.accelerator, cfg.devices, cfg.num_nodes) as process:
        if translate(job, process.rank, process.world_size, process.device):
            write_text(job)


if __name__ == "__main__":
    main()
