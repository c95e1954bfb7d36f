"""Renders the page as a single HTML file that needs no server and no network."""

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
    """A section of the page: a title, a `note` below it, tables, then plots."""

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()


def render_page(title: str, sections: Sequence[Section], sentences: Mapping[str, Any] | None) -> str:
    """Returns the page as HTML. All text is escaped.

    Args:
        title: the title of the page.
        sections: the sections in order. Sections without tables and plots are omitted.
        sentences: the data from `reader_data`; None omits the sentence reader.
    """
    template = jinja2.Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    filled = [section for section in sections if section.tables or section.plots]
    return template.render(title=title, sections=filled, sentences=sentences)
