"""The page that translates in a browser: what it is made of, what is refused, and what Chromium shows."""

import json
import os

import pytest
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

from benchmarks.browser import BROWSER, browse
from nemo_distill.config.section import read_section
from nemo_distill.decoding.engines import load_engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.export import settings as settings_module
from nemo_distill.export.browser_page import render_page
from nemo_distill.export.export_model import export_model
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import ExportSettings
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.restore import restore_for_inference
from tests.browsing import INSTALLED, LIBRARY, RUNTIME, write_node_modules
from tests.conftest import reversing_sentences, train_sentencepiece
from tests.export.conftest import LEARNED, PRE_LN, random_model

PENALTY = 2.0  # so much that it changes half of the unsure model's translations
LINES = reversing_sentences(20, seed=900)[0]


@pytest.fixture
def node_modules(tmp_path):
    return write_node_modules(tmp_path / "node_modules")


def problems(path, folder, **values):
    values = {"model": str(path), "output": str(folder / "out"), "format": "browser", **values}
    return read_section(ExportSettings, values)[1]


def test_the_folder_has_all_that_the_page_needs_and_says_where_it_is_from(trained_path, node_modules, tmp_path):
    output = tmp_path / "page"
    export_model(ExportSettings(trained_path, output, format="browser", node_modules=node_modules))
    versions = ExportRecord.read(output).versions
    assert (versions[LIBRARY], versions[RUNTIME]) == ("4.3.1", "1.31.0")
    assert {str(file.relative_to(output)) for file in output.rglob("*") if file.is_file()} >= {
        "index.html", "translator.js", "library/LICENSE", "library/transformers.min.js",
        "library/ort-wasm-simd-threaded.js", "library/ort-wasm-simd-threaded.wasm",
        "model/config.json", "model/generation_config.json", "model/tokenizer.json", "model/tokenizer_config.json",
        "model/onnx/encoder_model.onnx", "model/onnx/decoder_model_merged.onnx",
    }  # fmt: skip
    assert "https:" not in "".join((output / name).read_text() for name in ("index.html", "translator.js"))


def test_the_page_has_the_models_name_and_search():
    page = render_page("<b>.nemo", {"beam_size": 7, "len_pen": 0.25})
    assert "Loading &lt;b&gt;.nemo" in page and 'value="7"' in page and "beam.valueAsNumber, 0.25)" in page


def test_what_npm_has_not_installed_is_told(trained_path, node_modules, tmp_path):
    assert problems(trained_path, tmp_path, node_modules=str(node_modules)) == []
    (problem,) = problems(trained_path, tmp_path)
    assert problem.startswith("node_modules has no value") and "npm install" in problem
    (node_modules / RUNTIME / "dist" / "ort-wasm-simd-threaded.wasm").unlink()
    (problem,) = problems(trained_path, tmp_path, node_modules=str(node_modules))
    assert f"which has no {RUNTIME}/dist/ort-wasm-simd-threaded.wasm; npm install" in problem


def test_a_missing_package_is_told_with_the_extra_that_installs_it(trained_path, node_modules, tmp_path, monkeypatch):
    monkeypatch.setattr(settings_module, "find_spec", lambda name: None if name == "onnxruntime" else name)
    (problem,) = problems(trained_path, tmp_path, node_modules=str(node_modules))
    assert problem == "onnxruntime is not installed: pip install 'nemo_distill[onnx]'."


@pytest.mark.parametrize(
    ("package", "content", "said"),
    [
        (LIBRARY, {"version": "3.9.0"}, f"node_modules: {LIBRARY} is 3.9.0, the page needs 4"),
        (RUNTIME, {"version": "1.30.0"}, f"node_modules: {LIBRARY} needs {RUNTIME} 1.31.0; there is 1.30.0."),
    ],
)
def test_other_versions_of_the_library_are_refused(package, content, said, trained_path, node_modules, tmp_path):
    (node_modules / package / "package.json").write_text(json.dumps(content))
    (problem,) = problems(trained_path, tmp_path, node_modules=str(node_modules))
    assert problem.startswith(said)


def test_what_the_page_cannot_do_is_refused_with_its_reasons(corpus, tokenizer, node_modules, tmp_path):
    options = {"normalization_rule_name": "nmt_nfkc_cf"}
    folding = train_sentencepiece(tmp_path / "folding", corpus / "both.txt", **options)
    path = tmp_path / "model.nemo"
    model = random_model({}, PRE_LN | LEARNED, folding, folding, True)
    model.cfg.src_language = "de"
    model.save_to(str(path))
    found = problems(path, tmp_path, quantization="int16", node_modules=str(node_modules))
    for said in (
        "quantization=int16: format=browser has only float32 and int8.",
        "format=browser has nothing else",  # BART and mBART, for pre_ln
        "src_language=de: NeMo tokenizes text of this model with Moses",
        "encoder_tokenizer: its normalization rule is nmt_nfkc_cf",
        "decoder_tokenizer: its normalization rule is nmt_nfkc_cf",
    ):
        assert any(said in problem for problem in found), (said, found)
    assert len(found) == 5


# Translates lines with both searches after the server has stopped serving, and by the library's own greedy search before.
SCRIPT = """<script type="module">
const [form, text, beam, button, status] = ["form", "#text", "#beam", "button", "#status"].map((x) => document.querySelector(x));
const until = async (condition) => { while (!condition()) await new Promise((done) => setTimeout(done, 20)) };
const post = (path, body) => fetch(path, { method: "POST", body: JSON.stringify(body) });
const shown = () => [...document.querySelectorAll("td:first-child")].map((cell) => cell.lastChild.textContent);
try {
  await until(() => !button.disabled || status.className === "problem");
  const { AutoModelForSeq2SeqLM, AutoTokenizer } = await import("./library/transformers.min.js");
  const [tokenizer, model] = await Promise.all([AutoTokenizer, AutoModelForSeq2SeqLM].map((one) => one.from_pretrained("model")));
  const generated = [];
  for (const line of LINES.slice(0, -1)) {
    generated.push(tokenizer.decode((await model.generate(tokenizer(line))).tolist()[0], { skip_special_tokens: true }));
  }
  await post("/ready", { status: status.textContent, generated });
  text.value = LINES.join("\\n");
  const found = {};
  for (beam.value of [1, 4]) {
    form.requestSubmit();
    await until(() => !button.disabled);
    found[beam.value] = shown();
  }
  await post("/done", { found, times: [...document.querySelectorAll("td.number")].map((cell) => cell.textContent) });
} catch (error) { await post("/done", { error: `${error} ${status.textContent}` }) }
</script>"""


@pytest.fixture
def unsure_path(trained_path, tmp_path):
    """A model that finds many words likely, so that beams, lengths and the order of hypotheses matter."""
    model = restore_for_inference(MTEncDecModel, trained_path)
    for parameter in model.decoder.decoder.final_layer_norm.parameters():
        parameter.data.mul_(0.15)
    model.cfg.len_pen = PENALTY
    path = tmp_path / "unsure.nemo"
    model.save_to(str(path))
    return path


def expected_rows(path, beam_size):
    """What the page should show for LINES, and whether it has ended."""
    penalty = float(NemoArchive(path).config.len_pen)
    settings = SearchSettings(beam_size=int(beam_size), length_penalty=penalty)
    for found in load_engine("nemo_distill", [path]).translate(LINES, settings):
        yield found.text.strip(), found.hypotheses[0].finished


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.skipif(not INSTALLED.is_dir(), reason=f"npm has installed no {LIBRARY}: make javascript")
@pytest.mark.parametrize(
    ("fixture", "quantization", "same"), [("unsure_path", "float32", 20), ("trained_path", "int8", 16)]
)
def test_the_page_translates_without_a_server_as_our_engine_does(fixture, quantization, same, request, tmp_path):
    path, output = request.getfixturevalue(fixture), tmp_path / "page"
    settings = ExportSettings(path, output, format="browser", quantization=quantization, node_modules=INSTALLED)
    export_model(settings)
    script = SCRIPT.replace("LINES", json.dumps([*LINES, "der Hund " * 40]))
    posted = browse(output, script, tmp_path / "profile")
    assert "error" not in posted["/done"], posted
    assert f"{path.name}: " in posted["/ready"]["status"] and " MB downloaded" in posted["/ready"]["status"]
    for beam_size, shown in posted["/done"]["found"].items():
        rows = [(text.partition(" … (cut after ")[0], " … (cut after " not in text) for text in shown]
        expected = list(expected_rows(path, beam_size))
        assert sum(map(tuple.__eq__, rows, expected)) >= same, (rows, expected)
        assert rows[-1] == ("The line has 82 pieces; the model reads at most 64.", True)
    *times, of_the_last = posted["/done"]["times"]
    assert all(time.removesuffix(" ms").isdigit() for time in times) and of_the_last == ""
    generated = [text.strip() for text in posted["/ready"]["generated"]]
    ended = [index for index, (_, ended) in enumerate(expected_rows(path, 1)) if ended]
    assert len(ended) >= 5 and sum(generated[i] == posted["/done"]["found"]["1"][i] for i in ended) == len(ended)


AGAIN = """<script type="module">
const [button, status] = ["button", "#status"].map((one) => document.querySelector(one));
while (button.disabled && status.className !== "problem") await new Promise((done) => setTimeout(done, 20));
const seen = performance.getEntriesByType("resource").map(({ name, transferSize }) => [name.split("/").pop(), transferSize]);
const path = sessionStorage.visits ? "/done" : "/first";
await fetch(path, { method: "POST", body: JSON.stringify(Object.fromEntries(seen.reverse())) });
if (path === "/first") { sessionStorage.visits = 1; location.href = "/" }
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.skipif(not INSTALLED.is_dir(), reason=f"npm has installed no {LIBRARY}: make javascript")
def test_the_page_asks_at_each_visit_whether_the_model_is_a_new_one(trained_path, tmp_path):
    """Of files that are old, a browser by itself uses its copies for days, maybe of one graph and not of the other."""
    output = tmp_path / "page"
    export_model(ExportSettings(trained_path, output, format="browser", quantization="int8", node_modules=INSTALLED))
    for file in (output / "model").rglob("*"):
        os.utime(file, (0, 0))
    posted = browse(output, AGAIN, tmp_path / "profile")
    for name in ("encoder_model_quantized.onnx", "decoder_model_merged_quantized.onnx", "tokenizer.json"):
        assert 0 < posted["/done"][name] < posted["/first"][name] / 2, posted  # unchanged, says the server
