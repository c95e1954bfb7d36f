import socket
import subprocess
import threading
from html import unescape
from urllib.parse import quote

import pytest
from omegaconf import OmegaConf

from benchmarks.browser import BROWSER
from nemo_distill.commands.demo_server import CUT, LONGEST_TEXT, ServerConfig, build_page
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config
from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.decoding.settings import SearchSettings
from tests.conftest import composed
from tests.examples.bad_files import MODEL, write_nemo


class Saying:
    def __init__(self, prefix, longest=100):
        self.prefix, self.longest = prefix, longest

    def translate(self, lines, settings):
        return [
            Translation((Hypothesis(f"{self.prefix} {line}", 0.0),), source_cut=len(line) > self.longest)
            for line in lines
        ]


def problems(*overrides):
    """What is wrong with a configuration."""
    try:
        read_config(ServerConfig, composed("demo_server", *overrides))
    except ConfigurationError as error:
        return error.problems
    return []


@pytest.fixture
def page():
    return build_page({"teacher": (Saying("long"), SearchSettings()), "student": (Saying("short"), SearchSettings())})


def test_every_model_answers_every_line(page):
    text = page.test_client().get("/", query_string={"text": "ein Hund\nein Mann"}).text
    assert "long ein Hund\nlong ein Mann" in text and "short ein Hund\nshort ein Mann" in text
    assert text.count(" ms</td>") == 2 and ">1.0x</td>" in text


def test_the_page_tells_which_model_translated_only_the_beginning_of_a_line():
    engines = {"teacher": Saying("long"), "student": Saying("short", longest=5)}
    page = build_page({name: (engine, SearchSettings()) for name, engine in engines.items()})
    text = page.test_client().get("/", query_string={"text": "Hund\nein langer Hund"}).text
    assert text.count(CUT) == 1 and text.index(CUT) > text.index("short ein langer Hund")


def test_an_empty_page_translates_nothing(page):
    assert "<table>" not in page.test_client().get("/").text


def test_what_is_typed_is_never_run(page):
    text = page.test_client().get("/", query_string={"text": "<script>alert(1)</script>"}).text
    assert "<script>" not in text and "long <script>alert(1)</script>" in unescape(text)


def test_a_text_too_long_is_refused(page):
    answer = page.test_client().get("/", query_string={"text": "x" * (LONGEST_TEXT + 1)}).text
    assert "at most 5000 are translated" in answer and "<table>" not in answer


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_answers(page, tmp_path):
    from waitress.server import create_server

    server = create_server(page, host="127.0.0.1", port=0, threads=1)
    threading.Thread(target=server.run, daemon=True).start()
    address = f"http://127.0.0.1:{server.effective_port}/?text={quote('ein Hund')}"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    try:
        shown = subprocess.run([*command, address], capture_output=True, text=True, timeout=120, check=True).stdout
    finally:
        server.close()
    assert "<td>student</td>" in shown and "short ein Hund" in shown


def test_a_port_that_another_program_has_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert problems(f"port={taken.getsockname()[1]}", "+models.a=a.nemo")[0].endswith(
            "program has it; take another."
        )


def test_all_mistakes_are_told_at_once():
    found = problems("+models.a=missing.nemo", "port=0", "search.beam_size=0")
    assert {problem.split()[0] for problem in found} == {"port=0:", "search.beam_size=0:", "models.a:"}


def test_more_translations_than_the_page_shows_are_refused():
    assert any(problem.startswith("search.n_best=3: ") for problem in problems("search.n_best=3"))


MANY = {"multilingual": True, "src_language": ["de", "nl"], "tgt_language": "en"}


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("{path}", "models.a: source_language has no value: the model is multilingual and knows de, nl."),
        ("{{model: {path}}}", "models.a: source_language has no value: the model is multilingual and knows de, nl."),
        ("{{model: {path}, source_language: fr}}", "models.a: source_language=fr: the model knows de, nl."),
        ("{{model: {path}, source_language: nl, dtype: int3}}", "models.a: dtype=int3: must be null or one of float32, float16, bfloat16, auto."),
        ("{{model: {path}, source_language: nl, weights: [1, 2]}}", "models.a.weights=[1.0, 2.0]: must be null or a number above 0 for each of the 1 models."),
        ("{{model: {path}, source_language: nl, tongue: nl}}", "models.a has the unknown key 'tongue'; known are dtype, model, source_language, target_language, weights."),
        ("{{source_language: nl}}", "models.a.model has no value; give it."),
        ("{{model: {path}, source_language: nld_Latn, target_language: eng}}", None),
    ],
)  # fmt: skip
def test_a_multilingual_model_has_its_languages_in_a_section(tmp_path, tokenizer, section, sentence):
    path = tmp_path / "many.nemo"
    write_nemo(path, OmegaConf.to_container(OmegaConf.merge(MODEL, MANY)), tokenizer.read_bytes())
    assert problems(f"+models.a={section.format(path=path)}") == ([sentence] if sentence else [])
