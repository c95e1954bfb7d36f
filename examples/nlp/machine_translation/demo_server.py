"""Serves a page to try models on. See conf/demo_server.yaml."""

import hydra
from omegaconf import DictConfig

from nemo_distill.demo.server_job import check_server, run_server
from nemo_distill.training import check, plain_errors


@hydra.main(version_base=None, config_path="conf", config_name="demo_server")
def main(cfg: DictConfig) -> None:
    check(cfg, check_server)
    with plain_errors():
        run_server(cfg)


if __name__ == "__main__":
    main()
