"""What the page that translates in a browser finds: its words and BLEU beside our engine's, its time, its megabytes.

    python benchmarks/browser.py test.de test.en student.nemo ... --node-modules node_modules --lines 500

A headless Chromium opens the page of each model, in float32 and in int8, and translates line by line, with beams of 1
and 4. "other" counts the sentences that get other words than from our engine in float32.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, get_args

from nemo_distill.console import markdown_table, set_up_console
from nemo_distill.decoding.engines import load_engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.parameters import archive_parameters
from nemo_distill.export.export_model import export_model
from nemo_distill.export.settings import ExportSettings
from nemo_distill.metrics.scores import bleu
from nemo_distill.nemo_files.archive import NemoArchive

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
COLUMNS = ("model", "parameters", "engine", "beam", "other", "BLEU", "ms a sentence", "MB downloaded")
BEAMS = (1, 4)
Quantization = Literal["float32", "int8"]
SECONDS = 3600.0  # that a page may take for all lines

SCRIPT = """<script type="module">
const post = (body) => fetch("/done", { method: "POST", body: JSON.stringify(body) });
try {
  const { load } = await import("./translator.js");
  const translate = await load(), found = {};
  const bytes = performance.getEntriesByType("resource").reduce((sum, entry) => sum + entry.transferSize, 0);
  for (const beam of BEAMS) {
    found[beam] = [];
    for (const line of LINES) {
      const started = performance.now(), { text } = await translate(line, beam, PENALTY);
      found[beam].push([text, performance.now() - started]);
    }
  }
  await post({ found, bytes });
} catch (error) { await post({ error: `${error}` }) }
</script>"""


class Server(SimpleHTTPRequestHandler):
    """Serves a folder, with a script in its page, until something is posted to /ready; keeps what is posted."""

    def __init__(self, *args: Any, posted: dict[str, Any], done: threading.Event, script: str, **keys: Any):
        self.posted, self.done, self.script = posted, done, script
        super().__init__(*args, **keys)

    def do_GET(self) -> None:
        if "/ready" in self.posted:
            self.send_error(503)
        elif self.path == "/":
            page = (Path(self.directory) / "index.html").read_text(encoding="utf-8") + self.script
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self.posted[self.path] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        if self.path == "/done":
            self.done.set()

    def log_message(self, *_: Any) -> None:
        pass


def browse(folder: Path, script: str, profile: Path, seconds: float = 120.0) -> dict[str, Any]:
    """Returns what a script in an exported page posts from Chromium, by path, until it posts to /done.

    Args:
        folder: the export.
        script: an HTML element.
        profile: a folder for the browser.
        seconds: how long it may take.
    """
    posted, done = dict[str, Any](), threading.Event()
    handler = partial(Server, directory=str(folder), posted=posted, done=done, script=script)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    browser = subprocess.Popen(
        [str(BROWSER), *options, f"http://127.0.0.1:{server.server_port}/"], stderr=subprocess.DEVNULL
    )
    try:
        assert done.wait(seconds), posted
    finally:
        browser.terminate()
        browser.wait()
        server.shutdown()
        server.server_close()
    return posted


def translated(
    model: Path, quantization: Quantization, lines: list[str], penalty: float, node_modules: Path
) -> dict[str, Any]:
    """Returns what SCRIPT posts from the page of a model."""
    values = {"BEAMS": list(BEAMS), "LINES": lines, "PENALTY": penalty}
    script = SCRIPT
    for name, value in values.items():
        script = script.replace(name, json.dumps(value))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page"
        export_model(
            ExportSettings(model, page, format="browser", quantization=quantization, node_modules=node_modules)
        )
        posted = browse(page, script, Path(folder) / "profile", SECONDS)["/done"]
    if "error" in posted:
        raise SystemExit(f"{model}: {posted['error']}")
    return posted


def rows_of(model: Path, lines: list[str], references: list[str], node_modules: Path) -> list[list[str]]:
    """Returns the rows of a model."""
    archive = NemoArchive(model)
    count, penalty = archive_parameters(archive), float(archive.config.get("len_pen") or 0.0)
    name = [model.parent.name if model.stem == "model" else model.stem, f"{count.total:,}" if count else ""]
    engine, rows, ours = load_engine("nemo_distill", [model]), [], {}
    for beam in BEAMS:
        found = engine.translate(lines, SearchSettings(beam_size=beam, length_penalty=penalty))
        ours[beam] = [one.text.strip() for one in found]
        rows.append([*name, "ours, float32", str(beam), "", f"{bleu(ours[beam], references).value:.2f}", "", ""])
    for quantization in get_args(Quantization):
        posted = translated(model, quantization, lines, penalty, node_modules)
        for beam in BEAMS:
            texts, times = zip(*posted["found"][str(beam)])
            other = sum(mine != theirs for mine, theirs in zip(ours[beam], texts))
            rows.append(
                [
                    *name, f"page, {quantization}", str(beam), str(other), f"{bleu(texts, references).value:.2f}",
                    f"{statistics.mean(times):.1f}", f"{posted['bytes'] / 1e6:.1f}",
                ]
            )  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="raw text, a sentence a line")
    parser.add_argument("reference", type=Path, help="its translations")
    parser.add_argument("models", nargs="+", type=Path, help=".nemo files")
    parser.add_argument("--node-modules", type=Path, default=Path(sys.prefix) / "node_modules", help="npm's folder")
    parser.add_argument("--lines", type=int, default=500, help="how many, from the beginning")
    arguments = parser.parse_args()
    if BROWSER is None:
        parser.error("there is no Chromium on this machine")
    set_up_console()
    lines, references = (
        path.read_text(encoding="utf-8").split("\n")[: arguments.lines]
        for path in (arguments.source, arguments.reference)
    )
    rows = [row for model in arguments.models for row in rows_of(model, lines, references, arguments.node_modules)]
    print(markdown_table(COLUMNS, rows))


if __name__ == "__main__":
    main()
