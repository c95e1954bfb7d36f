"""Exports a model to a format that runs without NeMo."""

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.section import read_config
from nemo_distill.export.export_model import export_model
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import ExportSettings


def main(cfg: DictConfig) -> None:
    check(cfg, check_export)
    settings = read_config(ExportSettings, cfg)
    with plain_errors():
        export_model(settings)
    print_export(settings.model, settings.output)


def check_export(cfg: DictConfig) -> None:
    """Checks the configuration and the model.

    Raises:
        ConfigurationError: with every problem found.
    """
    read_config(ExportSettings, cfg)


def print_export(model: Path, folder: Path) -> None:
    """Prints the size of a `.nemo`, of each file of its export, and the relative size of the export.

    Args:
        model: the `.nemo`.
        folder: the exported folder.
    """
    record = ExportRecord.read(folder)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    before, after = model.stat().st_size, sum(files.values())
    table = Table("file", "bytes", title=f"{record.format}, {record.quantization}")
    table.columns[1].justify = "right"
    table.add_row(str(model), f"{before:,}", end_section=True)
    for name, size in files.items():
        table.add_row(str(folder / name), f"{size:,}")
    table.add_section()
    table.add_row(f"{folder}: {after / before:.0%} of the .nemo", f"{after:,}")
    Console().print(table)
