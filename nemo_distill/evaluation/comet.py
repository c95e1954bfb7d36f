"""COMET (Rei et al. 2020, arXiv 2009.09025), by its authors' package and a checkpoint that lies on this machine."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from nemo_distill.data.output_files import fingerprint
from nemo_distill.evaluation.scores import Score

PACKAGE = "unbabel-comet"
BATCH_SIZE = 16
FETCH = "comet-score fetches one on a machine with internet"


def comet_problems(checkpoint: str | None) -> list[str]:
    """Returns a sentence for each reason why COMET cannot be computed; None asks for none."""
    if checkpoint is None:
        return []
    problems = []
    if not find_spec("comet"):
        problems.append("comet: the package is not installed: pip install 'nemo_distill[comet]'; or set comet=null.")
    if not Path(checkpoint).expanduser().is_file():
        problems.append(f"comet names '{checkpoint}', which does not exist; a checkpoint is a local file, {FETCH}.")
    return problems


def missing_comet() -> str:
    """Returns the sentence that says why there are no COMET scores, where none were asked for."""
    needed = "comet=<a local checkpoint>"
    return f"COMET: not computed; it needs {needed if find_spec('comet') else f'the extra [comet] and {needed}'}."


class Comet:
    """A COMET model.

    Args:
        checkpoint: the `.ckpt`, with its `hparams.yaml` in the folder above. Nothing is fetched: what its encoder
            needs must be in Hugging Face's cache.
        device: `cpu`, or `cuda...`, which takes one GPU.
    """

    def __init__(self, checkpoint: str, device: str = "cpu"):
        from comet import load_from_checkpoint

        self._path = Path(checkpoint).expanduser()
        self._model = load_from_checkpoint(str(self._path), local_files_only=True)
        self._gpus = int(device.startswith("cuda"))

    def score(self, sources: Sequence[str], translations: Sequence[str], references: Sequence[str]) -> Score:
        """Returns the mean of the sentences' scores, around 0 to 1."""
        rows = zip(sources, translations, references)
        samples = [{"src": source, "mt": translation, "ref": reference} for source, translation, reference in rows]
        found = self._model.predict(samples, batch_size=BATCH_SIZE, gpus=self._gpus, progress_bar=False)
        return Score(float(found.system_score), self._signature())

    def _signature(self) -> str:
        try:
            installed = version(PACKAGE)
        except PackageNotFoundError:
            installed = "unknown"
        return f"COMET|model:{self._path.name}|sha256:{fingerprint(self._path)['sha256'][:16]}|version:{installed}"
