"""Writes a model's card. See conf/model_card.yaml."""

import hydra
from omegaconf import DictConfig

from nemo_distill.evaluation.model_card import check_card, write_card
from nemo_distill.training import check, plain_errors


@hydra.main(version_base=None, config_path="conf", config_name="model_card")
def main(cfg: DictConfig) -> None:
    check(cfg, check_card)
    with plain_errors():
        write_card(cfg)


if __name__ == "__main__":
    main()
