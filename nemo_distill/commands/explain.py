"""Explains why a student is worse than its teacher: the gap in parts, and what to change first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from omegaconf import DictConfig
from pydantic import AfterValidator, Field

from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import Allowed, read_config, rule, section
from nemo_distill.console import console
from nemo_distill.decoding.engines import search_problems, written_language
from nemo_distill.evaluation.evaluation_sets import SetSection, with_languages
from nemo_distill.evaluation.explain_job import ExplainJob, ExplainSettings, export_folder
from nemo_distill.evaluation.explanation import STUDENT, TEACHER
from nemo_distill.evaluation.explanation_tables import print_explanation
from nemo_distill.evaluation.system_sections import Model, as_section
from nemo_distill.export.record import ExportRecord
from nemo_distill.export.settings import QUANTIZATIONS
from nemo_distill.metrics.scores import metric_problems
from nemo_distill.nemo_files.translation_archive import bilingual_archive
from nemo_distill.report.runs import read_curves
from nemo_distill.storage.files import UserPath, user_path
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.files import InputFiles, as_list, input_files, not_parallel


@section
class TrainingSection:
    """The text that the student was trained on."""

    source: InputFiles = Field(kw_only=True)
    """The source side, plain or packed, a sentence a line."""
    target: InputFiles = Field(kw_only=True)
    """The target side: references, or the teacher's translations, as the student has seen them."""

    @rule
    def parallel(self) -> list[str]:
        """Returns a sentence if the sides are not parallel."""
        return not_parallel(input_files(self.source), input_files(self.target))


def _opened(value: str | list[str]) -> str | list[str]:
    for path in as_list(value):
        bilingual_archive(path)
    return value


@section
class ExplainConfig(ExplainSettings):
    """The configuration of `explain`."""

    output_dir: UserPath = Field(kw_only=True)
    """Where the explanation and all texts are written."""
    teacher: Model = Field(kw_only=True)
    """A path, or a section as of an evaluation's models."""
    model: Annotated[
        str | Annotated[list[str], Field(min_length=1)],
        AfterValidator(_opened),
        Allowed("a .nemo, or a list of .nemo files"),
    ] = Field(kw_only=True)
    """The student, a `.nemo`; of several, which differ only in their seed, the first is explained."""
    test: SetSection = Field(default_factory=SetSection)
    """The sentences on which the gap is explained, with references."""
    train: TrainingSection = Field(kw_only=True)
    """The text that the student was trained on; of several kinds, the one that it was mostly trained on."""

    curve: str = "val_sacreBLEU"
    """What the student's training logged, where more is better; read beside the `.nemo`, for what more steps bring."""

    @rule
    def teacher_problems(self) -> list[str]:
        """Returns a sentence if the teacher cannot translate, or not by these settings."""
        teacher = as_section(self.teacher)
        if teacher.translations is not None:
            return ["teacher.translations: the teacher has to translate training text too; give its model."]
        if teacher.problems():
            return []  # told by the section itself
        problems = search_problems(teacher.system(TEACHER, ()).engine, self.search)
        if self.search.n_best > 1:
            problems.append("search.n_best: one translation a sentence is explained; leave it at 1.")
        return problems

    @rule
    def beam_problems(self) -> list[str]:
        """Returns a sentence if the wide beam is not wider than the student's own."""
        own = self.beam_size or self.search.beam_size
        if self.search.method != "beam":
            return [f"search.method={self.search.method}: beams are compared here; set beam."]
        if self.wide_beam_size > own:
            return []
        return [f"wide_beam_size={self.wide_beam_size}: must be more than the student's own beam size, {own}."]

    @rule
    def export_problems(self) -> list[str]:
        """Returns a sentence if the student is not served by the export."""
        folder = export_folder(self.export)
        if self.export is None:
            return []
        problems = search_problems("ctranslate2", self.search)
        if folder is None:
            return problems
        if not folder.exists():
            return [f"export={self.export}: must be null, one of {', '.join(QUANTIZATIONS)}, or an export's folder."]
        try:
            record = ExportRecord.read(folder)
        except ValueError as error:
            return [f"export: {error}."]
        if record.format != "ctranslate2":
            return [f"export: '{folder}' has format={record.format}; an export for CTranslate2 is explained."]
        student = user_path(as_list(self.model)[0])
        if record.sha256 != fingerprint(student)["sha256"]:
            return [f"export: '{folder}' was made from another model than '{student}'."]
        return problems

    @rule
    def metric_file_problems(self) -> list[str]:
        """Returns a sentence if the metric needs a file that is missing."""
        return metric_problems(f"metric={self.metric}", [self.metric])


def explain_job(cfg: DictConfig) -> ExplainJob:
    """Returns the job of a configuration, after checking as much as possible before a model is loaded.

    Raises:
        ConfigurationError: with every problem found.
    """
    config = read_config(ExplainConfig, cfg)
    teacher = as_section(config.teacher).system(TEACHER, ())
    students = [user_path(path) for path in as_list(config.model)]
    written = {TEACHER: teacher.written_language(), STUDENT: written_language(students[0])}
    (test,), problems = with_languages([config.test.test_set("test")], written, section="test")
    if problems:
        raise ConfigurationError(problems)
    training = list(zip(input_files(config.train.source), input_files(config.train.target)))
    curve = _training_curve(students[0], config.curve)
    return ExplainJob(teacher, students, test, training, config.output_dir, config, curve)


def _training_curve(model: Path, tag: str) -> Sequence[tuple[float, float]]:
    """Returns what a model's training logged, in the model's folder or the one above; empty if there is nothing."""
    curves = (read_curves(folder, [tag]).get(tag, ()) for folder in model.absolute().parents[:2])
    return next(filter(None, curves), ())


def main(cfg: DictConfig) -> None:
    job = checked(cfg, explain_job)
    with plain_errors(goes_on=True):
        record = job.run()
    print_explanation(record)
    console.info(f"the explanation is in '{job.folder / 'explanation.md'}'")
