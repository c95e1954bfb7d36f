"""Serves a web page that shows the translations of several models side by side, with their times."""

import socket
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

from omegaconf import DictConfig
from pydantic import Field
from rich.progress import track

from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.section import Allowed, read_config, rule, section
from nemo_distill.console import console
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import (
    Device,
    EngineName,
    ModelFiles,
    ModelSection,
    engine_of,
    engine_problems,
    load_engine,
    search_problems,
)
from nemo_distill.decoding.settings import AskedSearch, SearchSettings
from nemo_distill.evaluation.speed import timed_translations

if TYPE_CHECKING:
    from flask import Flask

LONGEST_TEXT = 5000  # characters; more are refused
CUT = "A line is too long for this model, so that only its beginning was translated."
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nemo_distill</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  textarea { box-sizing: border-box; width: 100%; font: inherit; padding: .6rem; border: 1px solid #9aa7b4 }
  button { font: inherit; margin: .6rem 0 1.4rem; padding: .4rem 1.2rem; background: #76b900; border: 0 }
  table { border-collapse: collapse; width: 100% }
  th, td { text-align: left; vertical-align: top; padding: .5rem .8rem .5rem 0; border-top: 1px solid #d5dce3 }
  td.number { white-space: nowrap; font-variant-numeric: tabular-nums; text-align: right }
  td.text { white-space: pre-wrap }
</style>
<h1>Teacher and students, side by side</h1>
<form method="get">
  <textarea name="text" rows="4" maxlength="{{ longest }}" autofocus aria-label="Text to translate, a sentence a line"
    placeholder="Text to translate, a sentence a line">
{{- text }}</textarea>
  <button>Translate</button>
</form>
{% if problem %}<p role="alert">{{ problem }}</p>{% endif %}
{% if answers %}
<table>
  <tr><th>model</th><th>translation</th><th>time</th><th></th></tr>
  {% for answer in answers %}
  <tr><td>{{ answer.name }}</td><td class="text">{{ answer.text }}
{%- if answer.source_cut %}<p role="alert">{{ cut }}</p>{% endif %}</td>
    <td class="number">{{ "%.0f" | format(1000 * answer.seconds) }} ms</td>
    <td class="number">{{ "%.1f" | format(answers[0].seconds / answer.seconds) }}x</td></tr>
  {% endfor %}
</table>
<p>The last column is the first model's time over this one's. A model's first sentence takes longer than the next.</p>
{% endif %}
</html>
"""


def answer(name: str, engine: Engine, text: str, settings: SearchSettings) -> dict[str, Any]:
    """Translates a text line by line, and returns what `PAGE` shows of it."""
    translations, seconds = timed_translations(engine, text.splitlines(), settings)
    joined = "\n".join(translation.text for translation in translations)
    is_cut = any(translation.source_cut for translation in translations)
    return {"name": name, "text": joined, "seconds": seconds, "source_cut": is_cut}


def build_page(engines: Mapping[str, tuple[Engine, SearchSettings]]) -> "Flask":
    """Returns the page as a WSGI application. The text is the query parameter `text`.

    Args:
        engines: the engines by the names to show, and how they search. Times are compared with the first one.
    """
    from flask import Flask, render_template_string, request

    page = Flask(__name__)
    one_at_a_time = Lock()  # parallel requests would distort the times

    @page.get("/")
    def show() -> str:
        text = request.args.get("text", "").strip()
        problem, answers = None, []
        if len(text) > LONGEST_TEXT:
            problem = f"The text has {len(text)} characters; at most {LONGEST_TEXT} are translated."
        elif text:
            with one_at_a_time:
                answers = [answer(name, engine, text, search) for name, (engine, search) in engines.items()]
        shown = {"text": text, "answers": answers, "problem": problem, "longest": LONGEST_TEXT, "cut": CUT}
        return render_template_string(PAGE, **shown)

    return page


@section
class ServerConfig:
    """The configuration of `serve`."""

    models: Annotated[
        dict[str, ModelFiles | ModelSection],
        Field(min_length=1),
        Allowed("a section with at least one model, such as '+models.student=student.nemo' adds"),
    ] = Field(default_factory=dict, validate_default=True)
    """The name on the page, and a `.nemo` or several, or the folder of an export or of a Hugging Face model; or a
    section with the languages of a multilingual model, such as `{model: many.nemo, target_language: fr}`. Times are
    compared with the first one's."""
    engine: EngineName | None = None
    """What searches; null: chosen for each model by the kind of file or folder."""
    device: Device = "cpu"
    """`cpu`, `cuda`, or one GPU such as `cuda:1`."""
    port: int = Field(default=8000, ge=1, le=65535)
    """The page is at `http://127.0.0.1:` and this port."""
    search: AskedSearch = Field(default_factory=AskedSearch)
    """How to search."""

    @rule
    def port_problems(self) -> list[str]:
        """Returns a sentence if another program has the port."""
        return [] if _is_free(self.port) else [f"port={self.port}: another program has it; take another."]

    @rule
    def package_problems(self) -> list[str]:
        """Returns a sentence if what the page needs is not installed."""
        there = find_spec("flask") and find_spec("waitress")
        return [] if there else ["The page needs flask and waitress: pip install 'nemo_distill[demo]'."]

    @rule
    def search_problems(self) -> list[str]:
        """Returns a sentence for each setting that the engine or the page cannot follow."""
        engines = dict.fromkeys(map(self.engine_name, self.sections().values()))
        problems = [problem for engine in engines for problem in search_problems(engine, self.search)]
        if self.search.n_best > 1:
            problems.append(f"search.n_best={self.search.n_best}: the page shows one translation; it must be 1.")
        return problems

    @rule
    def model_problems(self) -> list[str]:
        """Returns a sentence for each reason why the engine could not load a model."""
        problems = []
        for name, model in self.sections().items():
            found = engine_problems(self.engine_name(model), model.paths, model.dtype, *model.languages)
            problems += [f"models.{name}: {problem}" for problem in found]
        return problems

    def engine_name(self, model: ModelSection) -> str:
        """Returns the engine of a model."""
        return engine_of(model.paths[0], self.engine)

    def sections(self) -> dict[str, ModelSection]:
        """Returns a section for each model, also for those that only name files."""
        return {
            name: model if isinstance(model, ModelSection) else ModelSection(model=model)
            for name, model in self.models.items()
        }


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as waitress does
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def run_server(config: ServerConfig) -> None:
    """Loads the models and serves the page to this machine alone, until it is interrupted."""
    import waitress

    bar = track(config.sections().items(), "loading", transient=True)
    engines = {}
    for name, model in bar:
        kind = config.engine_name(model)
        engine = load_engine(kind, model.paths, config.device, model.dtype, model.weights, *model.languages)
        engines[name] = engine, config.search.of(kind)
    console.info(f"http://127.0.0.1:{config.port}  (Ctrl-C ends it)")
    waitress.serve(build_page(engines), host="127.0.0.1", port=config.port, threads=2)


def main(cfg: DictConfig) -> None:
    config = checked(cfg, partial(read_config, ServerConfig))
    with plain_errors():
        run_server(config)
