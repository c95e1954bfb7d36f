"""What the documentation's pages consist of: blocks of code, links and headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCK = re.compile(r"^( *)```([\w-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
MEASURED = re.compile(r"<!-- measured: .*?<!-- end -->", re.DOTALL)  # written by benchmarks/record.py
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        page: where it is.
        language: as the page names it; "" for none.
        code: without the indentation that it has in a list.
    """

    page: Path
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.code.splitlines()[0]}"


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """Returns all pages' blocks of these languages, without measured ones."""
    return [block for page in PAGES for block in _blocks(page) if block.language in languages]


def _blocks(page: Path) -> Iterator[Block]:
    for indent, language, code in BLOCK.findall(MEASURED.sub("", text_of(page))):
        yield Block(page, language, re.sub(f"^{indent}", "", code, flags=re.MULTILINE))


def links(page: Path) -> list[str]:
    """Returns the targets of a page's links, but for those in code."""
    return LINK.findall(re.sub(r"`[^`\n]*`", "", BLOCK.sub("", text_of(page))))


def anchors(page: Path) -> set[str]:
    """Returns what a link to a heading of this page may name after its #."""
    return {_slug(heading) for heading in HEADING.findall(BLOCK.sub("", text_of(page)))}


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
