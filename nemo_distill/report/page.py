"""The page as one HTML file, which needs no server and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from nemo_distill.report.plots import Plot
from nemo_distill.report.tables import Table

TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Section:
    """A part of the page: a title, a `note` under it, tables, then plots."""

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()


def render_page(title: str, sections: Sequence[Section], sentences: Mapping[str, Any] | None) -> str:
    """Returns the page's HTML; all text in it is escaped.

    Args:
        title: of the page.
        sections: in order; those without tables and plots are left out.
        sentences: as `reader_data` returns them; None leaves the reader out.
    """
    template = jinja2.Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    filled = [section for section in sections if section.tables or section.plots]
    return template.render(title=title, sections=filled, sentences=sentences)
