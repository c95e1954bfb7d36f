"""Prints tables as Markdown and on the screen. Cells are text, and the first column contains names."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

FILE_WIDTH = 240  # in columns, if the output is not a terminal


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table without a final newline."""
    ruler = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ruler, *rows))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Prints a table. All columns except the first are right-aligned."""
    table = Table(title=title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    screen = Console()
    (screen if screen.is_terminal else Console(width=FILE_WIDTH)).print(table)
