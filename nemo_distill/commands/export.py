"""Exports a model to a format that runs without NeMo, and measures what the export costs."""

from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig
from pydantic import Field

from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.errors import DataError
from nemo_distill.config.section import changed, read_config, rule, section
from nemo_distill.console import console, print_table
from nemo_distill.evaluation.export_quality import DevelopmentSet, measure_export, quality_problems
from nemo_distill.export.export_model import export_model
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import ExportSettings, missing_package
from nemo_distill.export.shortlist import add_shortlist
from nemo_distill.storage.files import UserPath
from nemo_distill.text.files import PossiblyEmptyFiles, input_files, not_parallel
from nemo_distill.text.languages import NO_LANGUAGE, language_problems

LABELS = ("pseudo.src", "pseudo.tgt")  # the text that `label` writes, if its name is not changed


@section
class ShortlistSection:
    """A lexical shortlist for CTranslate2, made from aligned text; null everywhere: no shortlist."""

    labels: UserPath | None = None
    """A folder of pseudo-labels, written by `label`: a student should be able to write what its teacher writes."""
    source: PossiblyEmptyFiles | None = None
    """Parallel text instead: a file, plain or packed, or several; a sentence a line."""
    target: PossiblyEmptyFiles | None = None
    """The translations of the source."""
    candidates: int = Field(default=50, ge=1)
    """Target pieces that a source piece allows at most: those aligned with it most often."""
    common: int = Field(default=100, ge=1)
    """The most frequent target pieces, which are allowed in every translation."""
    max_loss: float = Field(default=0.1, ge=0)
    """BLEU that the shortlist may lose on the development set, one sentence and 32 sentences at a time."""

    @property
    def is_wanted(self) -> bool:
        """True if a shortlist is to be made."""
        return any(value is not None for value in (self.labels, self.source, self.target))

    def files(self) -> tuple[list[Path], list[Path]]:
        """Returns the source files and the target files."""
        if self.labels is not None:
            return [self.labels / LABELS[0]], [self.labels / LABELS[1]]
        return input_files(self.source), input_files(self.target)

    @rule
    def text_problems(self) -> list[str]:
        """Returns a sentence for each reason why the text cannot be aligned."""
        if not self.is_wanted:
            return []
        if self.labels is not None:
            if self.source is not None or self.target is not None:
                return ["labels: a shortlist has labels, or source and target, and not both."]
            missing = [name for name in LABELS if not (self.labels / name).is_file()]
            return [f"labels names '{self.labels}', which has no {name}; 'label' writes it." for name in missing]
        return not_parallel(*self.files())

    @rule
    def unused_problems(self) -> list[str]:
        """Returns a sentence for each setting of a shortlist that is not made."""
        settings = {} if self.is_wanted else changed(self, "candidates", "common", "max_loss")
        return [
            f"{key}={value}: has no effect without labels, or source and target; give them, or leave it out."
            for key, value in settings.items()
        ]

    @rule
    def package_problems(self) -> list[str]:
        """Returns a sentence if what aligns the text is missing."""
        if not self.is_wanted or find_spec("eflomal"):
            return []
        return [f"source: a shortlist needs eflomal, which {missing_package('shortlist').partition(' ')[2]}"]


@section
class ExportConfig(ExportSettings):
    """The configuration of `export`."""

    development: DevelopmentSet = Field(default_factory=DevelopmentSet)
    """Text on which the cost of the export is measured."""
    max_loss: float = Field(default=0.3, ge=0)
    """BLEU that the export may lose on the development set, compared with float32. Beyond it, nothing is written."""
    shortlist: ShortlistSection = Field(default_factory=ShortlistSection)
    """A lexical shortlist, with which CTranslate2 is faster."""

    @rule
    def language_of_the_model(self) -> list[str]:
        """Returns a sentence if the development set cannot be scored in the language that the model writes."""
        language = self._archive.config.get("tgt_language") if self.development.is_given else None
        if self.development.language or not isinstance(language, str) or language == NO_LANGUAGE:
            return []
        return language_problems("development.language", self.development.set_for(language).language)

    @rule
    def measure_problems(self) -> list[str]:
        """Returns a sentence for each limit without a measurement, and what the format does not have."""
        problems = []
        if not self.development.is_given and changed(self, "max_loss"):
            without = "without development.source and development.reference"
            problems.append(f"max_loss={self.max_loss}: has no effect {without}; give them, or leave it out.")
        if self.development.is_given and self.format == "onnx":
            problems.append("development: format=onnx cannot be measured, because you run its search; remove it.")
        if self.development.is_given and self.pretokenized:
            problems.append("development: pretokenized=true exports no Moses, so that its text fits no reference.")
        if self.shortlist.is_wanted and self.format != "ctranslate2":
            problems.append(f"shortlist: format={self.format} has none, only format=ctranslate2; remove it.")
        elif self.shortlist.is_wanted and not self.development.is_given:
            problems.append(
                "shortlist: needs development.source and development.reference, which tell whether it costs quality."
            )
        return problems


def main(cfg: DictConfig) -> None:
    config = checked(cfg, partial(read_config, ExportConfig))
    with plain_errors():
        export_model(config, partial(_complete, config))
    print_export(config.model, config.output)


def _complete(config: ExportConfig, folder: Path, record: ExportRecord) -> ExportRecord:
    """Adds the shortlist to an export and measures both.

    Raises:
        DataError: if one of them costs more than it may.
    """
    if config.shortlist.is_wanted:
        made = config.shortlist
        console.info("aligning text for the shortlist")
        record = replace(record, shortlist=add_shortlist(folder, record, *made.files(), made.candidates, made.common))
        record.write(folder)
    if not config.development.is_given:
        return record
    quality = measure_export(config.model, folder, record, config.development)
    if problems := quality_problems(
        quality, config.format, config.quantization, config.max_loss, config.shortlist.max_loss
    ):
        raise DataError("\n".join([*problems, f"'{config.output}' was not written."]))
    return replace(record, quality=quality)


def print_export(model: Path, folder: Path) -> None:
    """Prints the size of a `.nemo`, of each file of its export, the relative size of the export, and what it costs."""
    record = ExportRecord.read(folder)
    files = {str(file): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    before, after = model.stat().st_size, sum(files.values())
    sizes = {str(model): before, **files, f"{folder}: {after / before:.0%} of the .nemo": after}
    rows = [(name, f"{size:,}") for name, size in sizes.items()]
    print_table(("file", "bytes"), rows, f"{record.format}, {record.quantization}")
    _print_quality(record)


def _print_quality(record: ExportRecord) -> None:
    if record.quality is None:
        if record.quantization != "float32":
            console.info(
                f"What {record.quantization} costs was not measured; give development.source and "
                "development.reference to measure it."
            )
        return
    quality = record.quality
    rows = [
        [
            name,
            f"{score.value:.2f}",
            f"{quality.p_values[name]:.3f}" if name in quality.p_values else "",
            f"{quality.nats[name]:.4f}" if name in quality.nats else "",
        ]
        for name, score in quality.scores.items()
    ]
    columns = ("", "BLEU", "p", "nats a token")
    print_table(columns, rows, f"{quality.source['name']}, beam {quality.beam_size}")
