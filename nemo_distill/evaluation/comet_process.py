"""Scores translations with COMET. `comet.py` runs this file with a Python that has unbabel-comet.

That package and NeMo need different versions of protobuf and torchmetrics and cannot be in the same environment.
Therefore this file imports nothing from nemo_distill.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from comet import load_from_checkpoint

BATCH_SIZE = 16


def main(job_path: str, result_path: str) -> None:
    """Reads a job (`checkpoint`, `gpus`, `sources`, `references`, `translations` by system) and writes the scores."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    model = load_from_checkpoint(job["checkpoint"], local_files_only=True)
    scores = {}
    for name, translations in job["translations"].items():
        rows = zip(job["sources"], translations, job["references"])
        samples = [{"src": source, "mt": translation, "ref": reference} for source, translation, reference in rows]
        found = model.predict(samples, batch_size=BATCH_SIZE, gpus=job["gpus"], progress_bar=False)
        scores[name] = float(found.system_score)
    result = {"scores": scores, "version": version("unbabel-comet")}
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
