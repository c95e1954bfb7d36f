"""A reader can follow every link, on disk and on the site, and finds every public name."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse

import griffe
import pytest

import nemo_distill
from nemo_distill import losses
from tests.conftest import REPOSITORY
from tests.docs.pages import PAGES, anchors, links, text_of

API = REPOSITORY / "docs" / "api.md"


def broken_links(page: Path) -> list[str]:
    """Returns the links of a page that lead to no file or to no heading."""
    return [link for link in links(page) if not urlparse(link).scheme and not leads_somewhere(page, link)]


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A *head*\n[a](#a-head) [b](#b) [c](page.md#a-head) [d](none.md) [e](https://e.org/none.md)")
    assert broken_links(page) == ["#b", "none.md"]


def test_a_page_of_the_site_links_to_no_file_outside_it():
    outside = [
        (page.name, link) for page in PAGES if page.parent.name == "docs" for link in links(page) if "../" in link
    ]
    assert outside == []


def test_names_of_the_python_interface_exist():
    package = griffe.load("nemo_distill", search_paths=[REPOSITORY], allow_inspection=False)
    names = re.findall(r"^::: nemo_distill\.(.+)$", text_of(API), re.MULTILINE)
    assert [name for name in names if not has_member(package, name)] == []


def has_member(package: griffe.Module, name: str) -> bool:
    try:
        return bool(package[name])
    except KeyError:
        return False


def test_exported_names_are_in_the_python_interface():
    shown = set(re.findall(r"^::: [\w.]+\.(\w+)$", text_of(API), re.MULTILINE))
    assert {*losses.__all__, *nemo_distill.__all__} <= shown


def test_the_page_on_design_names_every_layer_in_its_order():
    settings = tomllib.loads(text_of(REPOSITORY / "pyproject.toml"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    table = text_of(REPOSITORY / "docs" / "design.md").split("\n\n## ")[1].split("Outside the package")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert [Path(name).stem for row in rows for name in re.findall(r"`([\w./]+)`", row)] == layers


def test_readme_is_short():
    assert len(text_of(REPOSITORY / "README.md").splitlines()) <= 150


@pytest.mark.skipif(not all(map(find_spec, ("mkdocs", "material", "mkdocstrings"))), reason="MkDocs is not installed")
def test_the_site_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
