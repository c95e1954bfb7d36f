"""The page that reports the faults of NeMo's beam search must be right about them."""

import inspect
import re
import textwrap

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "nemo_beam_search.md").read_text(encoding="utf-8")


def run_reproduction(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(code, {})
    return int(capsys.readouterr().out.split()[0])


def test_the_reproduction_shows_what_the_page_says(capsys):
    assert f"It prints {run_reproduction(capsys)} " in PAGE


def test_the_fix_of_the_page_is_one(capsys, monkeypatch):
    from nemo.collections.nlp.modules.common.transformer import transformer_generators

    search = transformer_generators.BeamSearchSequenceGenerator
    wrong, right = re.findall(r"^[-+] +(\S.*)$", PAGE, flags=re.MULTILINE)
    source = textwrap.dedent(inspect.getsource(search._forward))
    assert wrong in source
    scope = dict(vars(transformer_generators))
    exec(source.replace(wrong, right), scope)
    monkeypatch.setattr(search, "_forward", scope["_forward"])
    assert run_reproduction(capsys) == 0
