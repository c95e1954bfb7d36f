"""Writes a model in a format that is served without NeMo. See conf/export.yaml."""

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.export.export_model import export_model
from nemo_distill.export.settings import check_export, read_settings
from nemo_distill.export.summary import print_export


@hydra_main("conf", "export")
def main(cfg: DictConfig) -> None:
    check(cfg, check_export)
    settings = read_settings(cfg)
    with plain_errors():
        export_model(settings)
    print_export(settings.model, settings.output)


if __name__ == "__main__":
    main()
