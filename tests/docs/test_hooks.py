"""The generated parts of the site."""

import importlib.util
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.docs.pages import text_of

SECTION = '''
from pydantic import Field
from nemo_distill.config.section import section

@section
class Search:
    """How to search."""

    output: str
    """A folder."""
    beam_size: int = Field(default=4, ge=1)
    """Hypotheses that are followed; 1 is greedy search."""
    form: str | None = None
    """`wu` | `power`."""
    sizes: list[int] = Field(default_factory=list)
    """Several."""

class NotOne:
    pass
'''


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", REPOSITORY / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "package_of_sections"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
        del sys.modules[name]


def test_a_section_is_a_heading_and_a_table_of_its_keys(hooks, package):
    (package / "search.py").write_text(SECTION)
    assert hooks.sections_reference(package).splitlines() == [
        "### Search",
        "",
        "How to search.",
        "",
        "| key | value | default | meaning |",
        "|---|---|---|---|",
        "| `output` | text | required | A folder. |",
        "| `beam_size` | a whole number of at least 1 | `4` | Hypotheses that are followed; 1 is greedy search. |",
        "| `form` | null or text | `null` | `wu` \\| `power`. |",
        "| `sizes` | a list, of which each entry is a whole number | `[]` | Several. |",
    ]


def test_a_section_without_a_docstring_has_none(hooks, package):
    (package / "search.py").write_text(SECTION.replace('    """How to search."""\n', ""))
    assert hooks.sections_reference(package).startswith("### Search\n\n| key |")


def test_a_package_without_sections_has_a_sentence(hooks, package):
    assert hooks.sections_reference(package) == "No job uses typed sections yet."


def test_a_section_that_imports_nemo_is_refused(hooks, package, monkeypatch):
    monkeypatch.setitem(sys.modules, "nemo", None)  # so that what was there before comes back
    monkeypatch.delitem(sys.modules, "nemo")
    imports_nemo = "import sys, types\nsys.modules['nemo'] = types.ModuleType('nemo')\n"
    (package / "search.py").write_text(imports_nemo + SECTION)
    with pytest.raises(RuntimeError, match=r"package_of_sections\.search"):
        hooks.sections_reference(package)


def test_every_configuration_file_is_shown(hooks):
    shown = hooks.on_page_markdown(text_of(REPOSITORY / "docs" / "configuration.md"))
    paths = [path.relative_to(hooks.CONF).as_posix() for path in hooks.CONF.rglob("*.yaml")]
    assert paths and all(f'??? note "{path}"' in shown for path in paths)
    assert "    model_path: null # the teacher's" in shown and "<!--" not in shown


def test_a_list_after_a_table_is_no_row_of_it(hooks):
    assert hooks.on_page_markdown("| a |\n- b\n\n- c\n") == "| a |\n\n- b\n\n- c\n"
