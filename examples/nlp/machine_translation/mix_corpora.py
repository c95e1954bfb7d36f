"""Mixes real and pseudo-labelled text in given proportions. See conf/mix_corpora.yaml."""

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.mix_corpora import check_mixing, mix_corpora
from nemo_distill.commands.training import check, plain_errors


@hydra_main("conf", "mix_corpora")
def main(cfg: DictConfig) -> None:
    check(cfg, check_mixing)
    with plain_errors():
        mix_corpora(cfg)


if __name__ == "__main__":
    main()
