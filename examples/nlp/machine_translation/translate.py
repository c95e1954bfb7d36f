"""Translates a file or standard input, line by line. See conf/translate.yaml."""

import sys

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.commands.translate import check_translation, run_translation
from nemo_distill.console import set_up_console


@hydra_main("conf", "translate")
def main(cfg: DictConfig) -> None:
    set_up_console(sys.stderr)  # standard output is for translations
    check(cfg, check_translation)
    with plain_errors():
        run_translation(cfg)


if __name__ == "__main__":
    main()
