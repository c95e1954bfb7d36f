"""What an export weighs, beside what it was made from."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from nemo_distill.export.record import ExportRecord


def print_export(model: Path, folder: Path) -> None:
    """Prints the size of a `.nemo`, of each file of its export, and what the whole is of it.

    Args:
        model: the `.nemo`.
        folder: the export's.
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
