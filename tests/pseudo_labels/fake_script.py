"""`generate_pseudo_labels.py` with an engine of a few lines where the default one would be."""

from pathlib import Path

from nemo_distill.commands import generate_pseudo_labels as job
from tests.pseudo_labels.fakes import Shouting

job.load_engine = lambda **options: Shouting()
SCRIPT = Path(__file__).parents[2] / "examples" / "nlp" / "machine_translation" / "generate_pseudo_labels.py"

if __name__ == "__main__":
    exec(compile(SCRIPT.read_text(encoding="utf-8"), str(SCRIPT), "exec"))
