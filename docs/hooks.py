"""Writes the generated parts of the site: the configuration reference, and a repair of tables that lists follow.

MkDocs calls `on_page_markdown` for each page before it becomes HTML. A page asks for generated text by a comment:
`<!-- sections -->` for the typed sections of the package, `<!-- config files -->` for the jobs' files.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nemo_distill"
CONF = ROOT / "examples" / "nlp" / "machine_translation" / "conf"
LIST_AFTER_TABLE = re.compile(r"^(\|.*\n)(?=- )", re.MULTILINE)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Returns a page with its generated parts."""
    if "<!-- sections -->" in markdown:
        markdown = markdown.replace("<!-- sections -->", sections_reference(PACKAGE))
    if "<!-- config files -->" in markdown:
        markdown = markdown.replace("<!-- config files -->", config_files(CONF))
    return LIST_AFTER_TABLE.sub(r"\1\n", markdown)  # without a blank line, the list would be rows of the table


def sections_reference(package: Path) -> str:
    """Returns a heading and a table of keys for each class of the package that `@section` made."""
    found = [getattr(_imported(module), name) for module, name in section_names(package)]
    return "\n\n".join(map(_described, found)) or "No job uses typed sections yet."


def section_names(package: Path) -> Iterator[tuple[str, str]]:
    """Yields the module and the name of each class with the decorator `@section`, without importing anything."""
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and any(ast.unparse(one) == "section" for one in node.decorator_list):
                yield module.removesuffix(".__init__"), node.name


def _imported(module: str) -> Any:
    """Returns a module.

    Raises:
        RuntimeError: if importing it imports NeMo, which takes many seconds.
    """
    there_already = "nemo" in sys.modules
    imported = importlib.import_module(module)
    if "nemo" in sys.modules and not there_already:
        raise RuntimeError(f"{module} has a typed section and imports NeMo; import NeMo later, or move the section.")
    return imported


def _described(section: type) -> str:
    """Returns what a section is, and a row for each key: type, default, description."""
    from nemo_distill.config.wording import type_in_words

    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, field in section.__pydantic_fields__.items():
        default = "required" if field.is_required() else f"`{_shown(field.get_default(call_default_factory=True))}`"
        words = type_in_words(field.annotation, field.metadata)
        rows.append("| " + " | ".join(map(_cell, (f"`{key}`", words, default, field.description or ""))) + " |")
    said = inspect.getdoc(section) or ""
    said = "" if said.startswith(f"{section.__name__}(") else said  # a dataclass's default
    parts = [f"### {section.__name__}", said, "\n".join(rows)]
    return "\n\n".join(filter(None, parts))


def _shown(default: Any) -> str:
    """Returns a default as a user would type it."""
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    if isinstance(default, (list, tuple)):
        return f"[{', '.join(map(_shown, default))}]"
    if isinstance(default, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(value)}" for key, value in default.items()) + "}"
    if hasattr(default, "__pydantic_fields__"):
        return f"{type(default).__name__}'s defaults"
    return str(default)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def config_files(folder: Path) -> str:
    """Returns each configuration file, folded up under its name."""
    paths = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/*.yaml"))]
    return "\n\n".join(_folded(str(path.relative_to(folder)), path.read_text(encoding="utf-8")) for path in paths)


def _folded(name: str, content: str) -> str:
    lines = ["```yaml", *content.rstrip().split("\n"), "```"]
    return "\n".join([f'??? note "{name}"', ""] + [f"    {line}".rstrip() for line in lines])
