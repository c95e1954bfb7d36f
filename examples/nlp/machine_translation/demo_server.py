"""Serves a page to try models on. See conf/demo_server.yaml."""

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.demo_server import check_server, run_server
from nemo_distill.commands.training import check, plain_errors


@hydra_main("conf", "demo_server")
def main(cfg: DictConfig) -> None:
    check(cfg, check_server)
    with plain_errors():
        run_server(cfg)


if __name__ == "__main__":
    main()
