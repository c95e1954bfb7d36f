"""The library that pages run in a browser."""

import json
import sys
from pathlib import Path

LIBRARY, RUNTIME = "@huggingface/transformers", "onnxruntime-web"
INSTALLED = Path(sys.prefix) / "node_modules"  # where `make javascript` puts the library


def write_node_modules(folder: Path) -> Path:
    """Writes a folder as npm writes it for the library, with nothing in its files. Returns `folder`."""
    runtime = [f"{RUNTIME}/dist/ort-wasm-simd-threaded.{end}" for end in ("mjs", "wasm")]
    for name in (f"{LIBRARY}/dist/transformers.min.js", f"{LIBRARY}/LICENSE", *runtime):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    package = {"version": "4.3.1", "dependencies": {RUNTIME: "1.31.0"}}
    (folder / LIBRARY / "package.json").write_text(json.dumps(package))
    (folder / RUNTIME / "package.json").write_text(json.dumps({"version": "1.31.0"}))
    return folder
