import shutil
import socket
import subprocess
import threading
from html import unescape
from urllib.parse import quote

import pytest
from hydra import compose, initialize_config_dir

from nemo_distill.commands.demo_page import LONGEST_TEXT, build_page
from nemo_distill.commands.demo_server import check_server
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.decoding.settings import SearchSettings
from tests.conftest import SCRIPTS

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Saying:
    def __init__(self, prefix):
        self.prefix = prefix

    def translate(self, lines, settings):
        return [Translation((Hypothesis(f"{self.prefix} {line}", 0.0),)) for line in lines]


@pytest.fixture
def page():
    return build_page({"teacher": Saying("long"), "student": Saying("short")}, SearchSettings())


def test_every_model_answers_every_line(page):
    text = page.test_client().get("/", query_string={"text": "ein Hund\nein Mann"}).text
    assert "long ein Hund\nlong ein Mann" in text and "short ein Hund\nshort ein Mann" in text
    assert text.count(" ms</td>") == 2 and ">1.0x</td>" in text


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
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        initialize_config_dir(str(SCRIPTS / "conf"), version_base=None),
    ):
        cfg = compose("demo_server", [f"port={taken.getsockname()[1]}"])
        with pytest.raises(ConfigurationError, match="another program has it; take another"):
            check_server(cfg)


def test_all_mistakes_are_told_at_once():
    with initialize_config_dir(str(SCRIPTS / "conf"), version_base=None):
        cfg = compose("demo_server", ["+models.a=missing.nemo", "port=0", "search.beam_size=0"])
    with pytest.raises(ConfigurationError) as raised:
        check_server(cfg)
    keys = {problem.split()[0] for problem in raised.value.problems}
    assert keys == {"port=0:", "search.beam_size=0:", "models.a:"}
