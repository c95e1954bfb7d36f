import importlib.util
import re
from pathlib import Path

import nemo_distill
from nemo_distill import losses

SCRIPT = Path(__file__).parent.parent / "docs" / "reference.py"


def load_script():
    spec = importlib.util.spec_from_file_location("reference", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_reference_is_what_the_docstrings_say_now(caplog):
    script = load_script()
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run 'make reference'"
    assert not caplog.records  # griffe warns of arguments that a docstring has and the signature has not


def test_all_exported_names_are_in_the_reference():
    classes = set(re.findall(r"^### `nemo_distill\.[\w.]*\.(\w+)`$", load_script().page(), re.MULTILINE))
    assert {*losses.__all__, *nemo_distill.__all__} <= classes
