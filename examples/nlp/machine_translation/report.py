"""Gathers trainings and an evaluation into a page. See conf/report.yaml."""

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.report import check_report, write_report
from nemo_distill.commands.training import check, plain_errors


@hydra_main("conf", "report")
def main(cfg: DictConfig) -> None:
    check(cfg, check_report)
    with plain_errors():
        write_report(cfg)


if __name__ == "__main__":
    main()
