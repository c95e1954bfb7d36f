"""Writes a model's card. See conf/model_card.yaml."""

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.report.model_card import card_job, check_card


@hydra_main("conf", "model_card")
def main(cfg: DictConfig) -> None:
    check(cfg, check_card)
    with plain_errors():
        card_job(cfg)


if __name__ == "__main__":
    main()
