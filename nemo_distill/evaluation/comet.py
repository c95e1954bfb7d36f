"""Computes COMET (Rei et al. 2020, arXiv 2009.09025) with the authors' package and a local checkpoint."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import section
from nemo_distill.metrics.scores import Score
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import fingerprint

NOT_COMPUTED = "COMET: not computed; give comet.checkpoint and comet.python, see conf/evaluate.yaml."
INSTALL = (
    "'python -m venv comet_env && comet_env/bin/pip install unbabel-comet', then comet.python=comet_env/bin/python"
)


@section
class CometSettings:
    """The settings of COMET."""

    checkpoint: str | None = None
    """The `.ckpt` of a COMET model, with `hparams.yaml` in the parent folder; null: no COMET. Nothing is downloaded:
    its encoder must be in Hugging Face's cache."""
    python: str | None = None
    """The Python of an environment with unbabel-comet, which conflicts with NeMo; null: this one."""

    def problems(self) -> list[str]:
        """Returns the reasons why COMET, if configured, cannot be computed, one sentence each."""
        if self.checkpoint is None:
            return []
        problems = []
        if not self.file.is_file():
            problems.append(
                f"checkpoint names '{self.checkpoint}', which does not exist; it is a file on this machine."
            )
        if self.version() is None:
            problems.append(f"python={self.interpreter}: has no unbabel-comet. {INSTALL}.")
        return problems

    @property
    def interpreter(self) -> str:
        """The Python interpreter with unbabel-comet."""
        return str(user_path(self.python).absolute()) if self.python else sys.executable

    def version(self) -> str | None:
        """Returns the version of unbabel-comet; None if it is not installed."""
        look = [self.interpreter, "-c", "import importlib.metadata as m; print(m.version('unbabel-comet'))"]
        try:
            return subprocess.run(look, capture_output=True, check=True, text=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    @property
    def file(self) -> Path:
        """The checkpoint, by its whole path: COMET runs in another folder.

        Raises:
            ValueError: if there is none.
        """
        if self.checkpoint is None:
            raise ValueError("comet.checkpoint has no value; give it")
        return user_path(self.checkpoint).absolute()

    def made_by(self) -> dict[str, Any]:
        """Returns what scores depend on besides the text, as JSON values."""
        hparams = self.file.parent.parent / "hparams.yaml"  # where COMET looks for it
        files = {"checkpoint": self.file, "hparams": hparams}
        fingerprints = {name: fingerprint(path) for name, path in files.items() if path.is_file()}
        return {**fingerprints, "python": self.python, "version": self.version()}


def comet_scores(
    settings: CometSettings,
    sources: Sequence[str],
    translations: Mapping[str, Sequence[str]],
    references: Sequence[str],
    device: str = "cpu",
) -> Iterator[tuple[str, Score]]:
    """Yields each system with its mean COMET score, usually between 0 and 1, as soon as it is there.

    Args:
        settings: the COMET settings.
        sources: one per sentence.
        translations: the translations of each system, one per sentence.
        references: one per sentence.
        device: `cpu`, `cuda`, or one GPU such as `cuda:1`.

    Raises:
        DataError: if COMET fails, with its error output.
    """
    digest = fingerprint(settings.file)["sha256"][:16]
    signature = f"COMET|model:{settings.file.name}|sha256:{digest}"
    job = {
        "checkpoint": str(settings.file),
        "gpus": int(device.startswith("cuda")),
        "sources": list(sources),
        "references": list(references),
        "translations": {name: list(texts) for name, texts in translations.items()},
    }
    with tempfile.TemporaryDirectory() as folder:
        path, errors = Path(folder) / "job.json", Path(folder) / "errors.txt"
        path.write_text(json.dumps(job), encoding="utf-8")
        # Passed as text. If run as a file, Python would import modules from its folder, such as `comet.py`.
        program = Path(__file__).with_name("comet_process.py").read_text(encoding="utf-8")
        command, environment = [settings.interpreter, "-c", program, str(path)], os.environ | _one_gpu(device)
        # The errors go to a file: a pipe that is not read would fill up and stop the process.
        options: dict[str, Any] = {"stdout": PIPE, "text": True, "cwd": folder, "env": environment}
        with errors.open("w") as stderr, Popen(command, stderr=stderr, **options) as process:
            try:
                for line in process.stdout or ():
                    result = json.loads(line)
                    yield result["name"], Score(result["score"], f"{signature}|version:{result['version']}")
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            told = errors.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise DataError(f"COMET with '{settings.file}' ended with an error:\n{told}")


def _one_gpu(device: str) -> dict[str, str]:
    """Returns the environment variable by which a process sees only the GPU of a device; COMET takes the first."""
    _, _, index = device.partition(":")
    if not index:
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[int(index)] if visible else index}
