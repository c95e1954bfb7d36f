"""Writes a page that translates in the browser, and the library that it runs: transformers.js, as npm installs it.

Any file server can serve them. The page reads the model that `browser_model.py` writes beside it.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemo_distill.nemo_files.tokenizer_files import sentencepiece_proto, tokenizer_library

LIBRARY, RUNTIME = "@huggingface/transformers", "onnxruntime-web"
MAJOR = "4"  # of the library's versions
SCRIPT = "translator.js"
QUANTIZATIONS = ("float32", "int8")
# Rules for characters that the library approximates. It would ignore any others.
NORMALIZERS = ("nmt_nfkc", "nfkc", "identity")
INSTALL = f"npm install --ignore-scripts {LIBRARY}@{MAJOR}"
# The runtime for the CPU alone; the one that the library takes by default has twice the bytes.
FILES = {
    LIBRARY: ("dist/transformers.min.js", "LICENSE"),
    RUNTIME: ("dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm"),
}


def library_problems(node_modules: Path) -> list[str]:
    """Returns a sentence if a folder of npm's does not have what the page needs, or has other versions of it."""
    missing = [
        f"{package}/{file}"
        for package, files in FILES.items()
        for file in ("package.json", *files)
        if not (node_modules / package / file).is_file()
    ]
    if missing:
        return [f"node_modules names '{node_modules}', which has no {', '.join(missing)}; {INSTALL} writes them."]
    versions = npm_versions(node_modules)
    if versions[LIBRARY].partition(".")[0] != MAJOR:
        return [f"node_modules: {LIBRARY} is {versions[LIBRARY]}, the page needs {MAJOR}: {INSTALL}"]
    wanted = _package(node_modules, LIBRARY)["dependencies"][RUNTIME]
    if versions[RUNTIME] != wanted:
        return [f"node_modules: {LIBRARY} needs {RUNTIME} {wanted}; there is {versions[RUNTIME]}."]
    return []


def npm_versions(node_modules: Path) -> dict[str, str]:
    """Returns the versions of the npm packages that the page has files of."""
    return {package: _package(node_modules, package)["version"] for package in FILES}


def _package(node_modules: Path, package: str) -> dict[str, Any]:
    return json.loads((node_modules / package / "package.json").read_text(encoding="utf-8"))


def normalizer_problems(side: str, path: Path) -> list[str]:
    """Returns a sentence if the library cannot normalize characters as a tokenizer file does."""
    if tokenizer_library(path) == "yttm":
        return []
    rules = sentencepiece_proto(path).normalizer_spec
    if rules.name in NORMALIZERS or not rules.precompiled_charsmap:
        return []
    return [
        f"{side}_tokenizer: its normalization rule is {rules.name or 'its own'}; format=browser has only "
        f"{', '.join(NORMALIZERS)}."
    ]


def write_page(folder: Path, model: str, config: Mapping[str, Any], node_modules: Path) -> None:
    """Writes the page and the library.

    Args:
        folder: the folder of the export.
        model: the file name of the `.nemo`, for the page to show.
        config: the config of the model, which names its beam and length penalty.
        node_modules: npm's folder, without `library_problems`.
    """
    library = folder / "library"
    library.mkdir()
    for package, files in FILES.items():
        for file in files:
            # Not all servers know what .mjs is, and browsers run no module of an unknown kind.
            shutil.copyfile(node_modules / package / file, library / Path(file).name.replace(".mjs", ".js"))
    shutil.copyfile(Path(__file__).with_name(SCRIPT), folder / SCRIPT)
    (folder / "index.html").write_text(render_page(model, config), encoding="utf-8")


def render_page(model: str, config: Mapping[str, Any]) -> str:
    """Returns the page; see `write_page`."""
    from jinja2 import Environment

    template = Path(__file__).with_name("translator.html").read_text(encoding="utf-8")
    beam_size, len_pen = int(config.get("beam_size") or 4), float(config.get("len_pen") or 0.0)
    return Environment(autoescape=True).from_string(template).render(model=model, beam_size=beam_size, len_pen=len_pen)
