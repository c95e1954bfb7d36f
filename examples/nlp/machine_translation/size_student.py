"""Says which students are small enough, before any is trained. See conf/size_student.yaml."""

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.size_student import check_sizing, run_sizing
from nemo_distill.commands.training import check, plain_errors


@hydra_main("conf", "size_student")
def main(cfg: DictConfig) -> None:
    check(cfg, check_sizing)
    with plain_errors():
        run_sizing(cfg)


if __name__ == "__main__":
    main()
