"""Scores translations with COMET. `comet.py` runs this file with a Python that has unbabel-comet.

That package and NeMo need different versions of protobuf and torchmetrics and cannot be in the same environment.
Therefore this file imports nothing from nemo_distill.
"""

import json
import sys
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path

from comet import load_from_checkpoint

BATCH_SIZE = 16


def main(job_path: str) -> None:
    """Reads a job (`checkpoint`, `gpus`, `sources`, `references`, `translations` by system).

    As soon as a system is scored, prints a line of JSON: its `name`, its `score`, and COMET's `version`.
    """
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    model = load_from_checkpoint(job["checkpoint"], local_files_only=True)
    for name, translations in job["translations"].items():
        rows = zip(job["sources"], translations, job["references"])
        samples = [{"src": source, "mt": translation, "ref": reference} for source, translation, reference in rows]
        found = model.predict(samples, batch_size=BATCH_SIZE, gpus=job["gpus"], progress_bar=False)
        result = {"name": name, "score": float(found.system_score), "version": version("unbabel-comet")}
        print(json.dumps(result), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # what COMET and Lightning print is no result
        main(*sys.argv[1:])
