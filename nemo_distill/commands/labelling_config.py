"""The configuration of a labelling job, and what it must satisfy."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from nemo_distill.config.errors import DataError
from nemo_distill.config.section import Allowed, rule, section
from nemo_distill.decoding.engines import ENGINES, model_width
from nemo_distill.evaluation.fastest_engine import EngineRequest
from nemo_distill.nemo_files.translation_archive import BilingualFile
from nemo_distill.pseudo_labels.assemble import ENDINGS
from nemo_distill.pseudo_labels.filters import NO_FILTERS, FilterSettings
from nemo_distill.pseudo_labels.quality import QualitySettings
from nemo_distill.pseudo_labels.selection import Criteria, Selection
from nemo_distill.pseudo_labels.shards import LabelFolder
from nemo_distill.pseudo_labels.teacher_section import API, FILE, TeacherSection
from nemo_distill.pseudo_labels.text_teacher import FileSettings
from nemo_distill.storage.files import UserPath
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.shard_folder import begun_settings
from nemo_distill.text.files import References, as_list, input_files, unfit_reference
from nemo_distill.text.languages import (
    NO_LANGUAGE,
    WORDS,
    bleu_tokenization,
    code_problems,
    first_lines,
    language_problems,
    scored_language,
)
from nemo_distill.trainer.precision import AUTO, chosen_dtype, torch_device

TEACHER = "teacher"  # in place of languages: the teacher's
RESERVED_NAMES = ("manifest", "settings", "bill", "engine")  # files of the job's own


def _starts_a_file_name(name: str) -> str:
    if not name or "/" in name or name.startswith(".") or name in RESERVED_NAMES:
        raise ValueError(f"must be the beginning of a file name, and none of {', '.join(RESERVED_NAMES)}")
    return name


Languages = Annotated[list[str | None], Field(min_length=2, max_length=2)]  # of source and target


@section
class LabellingConfig(Selection, TeacherSection):
    """The configuration of `label`."""

    reference: References | None = None
    """The reference of each source file, or null for monolingual text. Only `selection=interpolation` reads it."""
    output_dir: UserPath = Field(kw_only=True)
    """The folder to write."""
    overwrite: Literal[False, "text", True] = False
    """`text` replaces text of this name that was made with other settings. true replaces such labels too."""
    reverse_model: BilingualFile | None = None
    """A `.nemo` of the reverse direction. It gives the scores for `filters.reverse_score_quantile`."""
    reverse_dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    """What the reverse model computes in; `auto` as for `dtype`."""
    shard_lines: int = Field(default=10000, ge=1)
    """Source lines per shard. A killed process loses at most this many."""
    chunk_lines: int = Field(default=2048, ge=1)
    """Lines that the engine sorts by length at a time."""
    name: Annotated[str, AfterValidator(_starts_a_file_name)] = "pseudo"
    """Beginning of the names of the output files: `pseudo.src`, `pseudo.tgt` and their manifest `pseudo.json`."""
    moses: Annotated[
        Literal["teacher"] | Languages | None,
        Allowed("teacher, null, or the languages of source and target, as [de,en]"),
    ] = "teacher"
    """Languages by which Moses tokenizes the text that is written, as students of these languages need it. `teacher`:
    the teacher's languages, if it has any (engine=file, api and hugging_face have none); or a list such as `[de,en]`.
    null: raw text."""
    keep_dropped: bool = False
    """Write `pseudo.dropped.tsv`: reason, line, score, source, target."""
    keep_hypotheses: bool = False
    """Write `pseudo.hypotheses.tsv`: source and hypothesis, for all hypotheses, so that a metric can score them."""
    quality: QualitySettings = Field(default_factory=QualitySettings)
    """Scores of all hypotheses, for `selection=quality` and `filters.quality_quantile`."""
    more_labels: list[UserPath] = Field(default_factory=list)
    """Folders of finished labels of the same source, by other teachers or other searches. Their hypotheses are added
    to those of this job before the selection."""
    workers: int = Field(default=1, ge=1)
    """Processes that select and filter."""

    def engine_request(self) -> EngineRequest:
        """Returns what `engine=auto` chooses an engine for."""
        return EngineRequest(self, self.searched, torch_device(self.accelerator))

    def resolved(self) -> "LabellingConfig":
        """Returns the configuration with what `auto` stands for: first what the labels were begun with.

        An engine that has not been chosen yet stays `auto`.
        """
        if AUTO not in (self.engine_name, self.dtype, self.reverse_dtype):
            return self
        begun = {} if self.overwrite is True else begun_settings(self.output_dir)
        found: dict[str, Any] = {}
        if self.engine_name == AUTO:
            kept = begun if begun.get("engine") in ENGINES else self.engine_request().work(self.output_dir).done(True)
            found = {key: kept.get(key) for key in ("engine", "dtype")} if kept else {}
        elif self.dtype == AUTO:
            found["dtype"] = begun["dtype"] if "dtype" in begun else _chosen("dtype", self.teachers, self.accelerator)
        if self.reverse_dtype == AUTO and self.reverse_model:
            chosen = begun.get("reverse_dtype", "float32") if begun else None  # a record names what is not float32
            chosen = chosen or _chosen("reverse_dtype", [self.reverse_model], self.accelerator)
            found["reverse_dtype"] = chosen or "float32"
        return replace(self, **found)

    @property
    def references(self) -> list[Path | None]:
        """For each source its reference, or None."""
        if self.reference is None:
            return [None] * len(self.sources)
        found = [[None] if name is None else input_files(name) for name in as_list(self.reference)]
        return [path for paths in found for path in paths]

    @rule
    def reference_problems(self) -> list[str]:
        """Returns a sentence if sources and references do not go in pairs, or are not parallel."""
        sources, references = self.sources, self.references
        if len(sources) != len(references):
            return [
                f"reference names {len(references)} files and source {len(sources)}; they go in pairs, with null for "
                "monolingual text."
            ]
        pairs = [(source, reference) for source, reference in zip(sources, references) if reference]
        return [problem for pair in pairs for problem in unfit_reference("reference", *pair)]

    @rule
    def score_problems(self) -> list[str]:
        """Returns a sentence for each setting that goes by the teacher's scores, if translations have none."""
        if (reason := self.unscored) is None:
            return []
        needing = {
            "filters.score_quantile": self.filters and self.filters.score_quantile,
            "label_weights=probability": self.label_weights == "probability",
        }
        return [f"{key} needs scores, {reason}." for key, is_on in needing.items() if is_on]

    @rule
    def selection_problems(self) -> list[str]:
        """Returns a sentence if there is nothing to compare the hypotheses with."""
        problems = []
        if self.selection == "interpolation" and not any(self.references):
            problems.append(
                "selection=interpolation compares hypotheses with a reference, but reference names no file."
            )
        if self.selection in ("interpolation", "mbr") and self.hypotheses_per_line <= 1 and not self.more_labels:
            problems.append(
                f"{self.hypotheses_in_words}: selection={self.selection} chooses from at least 2 hypotheses."
            )
        return problems

    @rule
    def several_labels_problems(self) -> list[str]:
        """Returns a sentence if there cannot be as many labels for a source as are wanted."""
        wanted, most = self.labels_per_source, self.hypotheses_per_line
        problems = []
        if wanted > most and not self.more_labels:
            problems.append(f"labels_per_source={wanted}: the teacher gives at most {most} hypotheses of a line.")
        if self.label_weights and wanted == 1:
            problems.append(f"label_weights={self.label_weights} has no effect with labels_per_source=1.")
        if self.label_weights == "probability" and self.more_labels:
            problems.append("label_weights=probability: the scores of several teachers cannot be compared; use rank.")
        return problems

    @rule
    def quality_problems(self) -> list[str]:
        """Returns a sentence if there are no scores to go by, or nothing that goes by them."""
        filtered = bool(self.filters and self.filters.quality_quantile)
        selected = self.selection == "quality"
        scored = self.engine_name == FILE and not self.more_labels and not self.unscored
        problems = []
        if selected and not (self.quality.is_given or scored):
            problems.append("selection=quality needs scores: give quality.file or quality.command.")
        elif selected and not self.quality.metric:
            problems.append("quality.metric has no value; give the name of the metric, so that results can be marked.")
        if self.quality.lower_is_better and not self.quality.is_given:
            problems.append(
                "quality.lower_is_better=true: has no effect without quality.file or quality.command; of scores with "
                "engine=file, higher ones are better."
            )
        if filtered and not self.quality.is_given:
            problems.append("filters.quality_quantile needs scores: give quality.file or quality.command.")
        if self.quality != QualitySettings() and not (filtered or selected):
            problems.append("quality has no effect without selection=quality or filters.quality_quantile.")
        return problems

    @rule
    def consensus_problems(self) -> list[str]:
        """Returns a sentence if there are no hypotheses that could disagree."""
        if not (self.filters and self.filters.consensus_quantile) or self.hypotheses_per_line > 1 or self.more_labels:
            return []
        return ["filters.consensus_quantile compares at least 2 hypotheses: set search.n_best or more_labels."]

    @rule
    def unused_problems(self) -> list[str]:
        """Returns a sentence for each key that nothing reads."""
        problems, filters = [], self.filters or FilterSettings()
        if self.metric != Selection.metric and not self.compared_by:
            problems.append(
                f"metric={self.metric}: has no effect with selection={self.selection} and without "
                "filters.consensus_quantile."
            )
        if self.metric_language and "bleu" not in self.compared_by:
            said = "has no effect, because no hypotheses are compared by BLEU"
            problems.append(f"metric_language={self.metric_language}: {said}.")
        if self.reverse_dtype != LabellingConfig.reverse_dtype and not self.reverse_model:
            problems.append(f"reverse_dtype={self.reverse_dtype}: has no effect without reverse_model.")
        quantile = filters.reverse_score_quantile
        if quantile not in (None, FilterSettings.reverse_score_quantile) and not self.reverse_model:
            problems.append(f"filters.reverse_score_quantile={quantile}: has no effect without reverse_model.")
        return problems

    @rule
    def more_labels_problems(self) -> list[str]:
        """Returns a sentence for each folder whose hypotheses cannot be added, and if they would have no effect."""
        problems = []
        if self.more_labels and self.selection == "one_best":
            problems.append("more_labels has no effect with selection=one_best; choose another selection.")
        if self.more_labels and self.filters and self.filters.score_quantile:
            problems.append("filters.score_quantile: the scores of several teachers cannot be compared; set null.")
        for path in self.more_labels:
            try:
                LabelFolder.finished(path, self.sources)
            except DataError as error:
                problems.append(f"more_labels: {error}.")
            if path.resolve() == self.output_dir.resolve():
                problems.append(f"more_labels names '{path}', which is output_dir.")
        return problems

    @rule
    def language_problems(self) -> list[str]:
        """Returns a sentence if sacrebleu cannot part the words of the target language here."""
        if not ("bleu" in self.compared_by or self.metric_language) or self.engine_problems():
            return []
        return language_problems("metric_language", self.bleu_language())

    @rule
    def moses_problems(self) -> list[str]:
        """Returns a sentence for each code in `moses` that is no language's."""
        listed = self.moses if isinstance(self.moses, list) else []
        return [problem for code in listed if code != NO_LANGUAGE for problem in code_problems("moses", code)]

    @rule
    def overwriting_problems(self) -> list[str]:
        """Returns a sentence for each file that is read, or that no earlier job left, and the text would replace."""
        read = [*self.sources, *filter(None, self.references), *map(Path, self.teachers)]
        known = {path.resolve() for path in read}
        ours = (self.output_dir / "settings.json").is_file()
        return [
            f"name={self.name} would overwrite '{path}'; give another name, or another output_dir."
            for path in (self.output_dir / f"{self.name}.{ending}" for ending in ENDINGS)
            if path.resolve() in known or (path.exists() and not ours)
        ]

    def bleu_language(self) -> str | None:
        """Returns the language given, or else the teacher's or the references' where BLEU needs to know it.

        None may also mean that only the hypotheses, which are not there yet, can tell.
        """
        if self.metric_language or "bleu" not in self.compared_by:
            return self.metric_language
        given = filter(None, self.references) if any(self.references) else map(Path, self.text_files())
        language = scored_language(self.written_language(), (line for path in given for line in first_lines(path)))
        return None if bleu_tokenization(language) == WORDS else language

    def moses_languages(self) -> Sequence[str | None]:
        """Returns the languages whose tokenization the text is written in."""
        return self.model_languages() if self.moses == TEACHER else self.moses or [None, None]

    def criteria(self) -> Criteria:
        """Returns how labels are selected and filtered."""
        return Criteria(
            selection=self.selection,
            metric=self.metric_weights,
            metric_language=self.bleu_language(),
            filters=self.filters or NO_FILTERS,
            moses=self.moses_languages(),
            labels_per_source=self.labels_per_source,
            label_weights=self.label_weights,
            quality=self.quality.metric,
        )

    def depends_on(self) -> dict[str, Any]:
        """Returns everything that the labels depend on, as JSON has it."""
        copied = ("dtype", "weights", "source_language", "target_language", "shard_lines", "chunk_lines")
        own: dict[str, Any] = {"file": asdict(self.file)} if self.file != FileSettings() else {}
        own |= {"model": self.model, "api": self.api.decisive()} if self.engine_name == API else {}
        own |= {"noise": self.noise.decisive()} if self.noise.changes_text else {}
        own |= {"reverse_dtype": self.reverse_dtype} if self.reverse_dtype != "float32" else {}
        return {
            "engine": self.engine_name,
            **{key: getattr(self, key) for key in copied},
            **own,
            "teachers": [fingerprint(Path(path)) for path in self.teachers],
            "reverse_model": fingerprint(self.reverse_model) if self.reverse_model else None,
            "search": asdict(self.searched),
            "reading": asdict(self.reading),
            "sources": [{"name": path.name, "bytes": path.stat().st_size} for path in self.sources],
        }


def _chosen(key: str, paths: Sequence[str | Path], accelerator: str) -> str | None:
    """Returns the type that `auto` stands for; None for float32, the default, whose labels are the same."""
    dtype = chosen_dtype(key, min(map(model_width, paths)), accelerator)
    return None if dtype == "float32" else dtype
