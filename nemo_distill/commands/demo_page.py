"""A local web page that shows the translations of several models side by side, with their times."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.settings import SearchSettings

if TYPE_CHECKING:
    from flask import Flask

LONGEST_TEXT = 5000  # characters; more are refused
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
  <tr><td>{{ answer.name }}</td><td class="text">{{ answer.text }}</td>
    <td class="number">{{ "%.0f" | format(1000 * answer.seconds) }} ms</td>
    <td class="number">{{ "%.1f" | format(answers[0].seconds / answer.seconds) }}x</td></tr>
  {% endfor %}
</table>
<p>The last column is the first model's time over this one's. A model's first sentence takes longer than the next.</p>
{% endif %}
</html>
"""


@dataclass(frozen=True)
class Answer:
    """The translation by the model `name`, and its wall time."""

    name: str
    text: str
    seconds: float


def answer(name: str, engine: Engine, text: str, settings: SearchSettings) -> Answer:
    """Translates a text line by line and measures the time."""
    started = time.perf_counter()
    translations = engine.translate(text.splitlines(), settings)
    return Answer(name, "\n".join(translation.text for translation in translations), time.perf_counter() - started)


def build_page(engines: Mapping[str, Engine], settings: SearchSettings) -> "Flask":
    """Returns the page as a WSGI application. The text is the query parameter `text`.

    Args:
        engines: the engines by the names to show. Times are compared with the first one.
        settings: the search settings.
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
                answers = [answer(name, engine, text, settings) for name, engine in engines.items()]
        return render_template_string(PAGE, text=text, answers=answers, problem=problem, longest=LONGEST_TEXT)

    return page
