"""What int8 costs models: BLEU and the likelihood of the references, by CTranslate2 in float32 and in int8.

    python benchmarks/int8.py test.de test.en teacher.nemo student.nemo ...

p is of the difference in BLEU. Likelihood is in nats a token of the reference, fewer are better. It varies much less
than BLEU, because both types score the same words. The last line is a JSON object: the largest loss of both kinds.
"""

import argparse
import json
import tempfile
from pathlib import Path

from nemo_distill.console import markdown_table, set_up_console
from nemo_distill.evaluation.export_quality import EXPORT, FLOAT32, DevelopmentSet, measure_export
from nemo_distill.evaluation.parameters import archive_parameters
from nemo_distill.export.export_model import export_model
from nemo_distill.export.record import ExportRecord, Quality
from nemo_distill.export.settings import ExportSettings
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.translation_archive import SIDES

COLUMNS = ("model", "layers", "width", "parameters", "BLEU", "in int8", "p", "nats a token", "in int8")


def quality_of(model: Path, development: DevelopmentSet) -> Quality:
    """Exports a model and measures what that costs."""

    def measured(folder: Path, record: ExportRecord) -> ExportRecord:
        found.append(measure_export(model, folder, record, development))
        return record

    found: list[Quality] = []
    with tempfile.TemporaryDirectory() as folder:
        export_model(ExportSettings(model, Path(folder) / "export", quantization="int8"), measured)
    return found[0]


def row(model: Path, quality: Quality) -> list[str]:
    """Returns the cells of a model."""
    archive = NemoArchive(model)
    count = archive_parameters(archive)
    bleu = [f"{quality.scores[name].value:.2f}" for name in (FLOAT32, EXPORT)]
    nats = [f"{quality.nats[name]:.4f}" for name in (FLOAT32, EXPORT)]
    return [
        model.parent.name if model.stem == "model" else model.stem,
        "x".join(str(archive.config[side].num_layers) for side in SIDES),
        str(archive.config.encoder.hidden_size),
        f"{count.total:,}" if count else "",
        *bleu,
        f"{quality.p_values[EXPORT]:.3f}",
        *nats,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="raw text, a sentence a line")
    parser.add_argument("reference", help="its translations")
    parser.add_argument("models", nargs="+", type=Path, help=".nemo files")
    parser.add_argument("--beam", type=int, default=4)
    arguments = parser.parse_args()
    set_up_console()
    development = DevelopmentSet(source=arguments.source, reference=arguments.reference, beam_size=arguments.beam)
    if problems := development.problems():
        parser.error("\n".join(problems))
    found = {model: quality_of(model, development) for model in arguments.models}
    print(markdown_table(COLUMNS, [row(model, quality) for model, quality in found.items()]))
    losses = [
        (one.scores[FLOAT32].value - one.scores[EXPORT].value, one.nats[EXPORT] - one.nats[FLOAT32])
        for one in found.values()
    ]
    print(json.dumps(dict(zip(("bleu_lost", "nats_lost"), map(max, zip(*losses))))))


if __name__ == "__main__":
    main()
