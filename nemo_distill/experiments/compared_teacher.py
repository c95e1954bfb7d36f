"""The teacher of a comparison: what translates with it, its languages, and how the jobs are told of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from nemo_distill.config.overrides import path_override
from nemo_distill.decoding.asked_languages import KEYS, nemo_languages
from nemo_distill.decoding.engines import engine_of, engine_problems, is_folder_of_hugging_face
from nemo_distill.experiments.comparison_section import TEACHER, ComparisonConfig
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import LANGUAGE_KEYS

Languages = tuple[str | None, str | None]  # of source and target


@dataclass(frozen=True)
class ComparedTeacher:
    """A `.nemo` that is there or will be trained, or the folder of a Hugging Face model."""

    config: ComparisonConfig

    @cached_property
    def path(self) -> Path:
        """The file or folder."""
        if isinstance(self.config.teacher, str):
            return Path(self.config.teacher)
        return self.config.output_dir / TEACHER / "model.nemo"

    @property
    def engine(self) -> str:
        """What translates with it."""
        return engine_of(self.path)

    @cached_property
    def languages(self) -> Languages:
        """The languages that it must be told, of source and target; None for one that it has no choice of."""
        return min(self._candidates(), key=lambda one: len(_problems(self.path, one)))

    def _candidates(self) -> Iterator[Languages]:
        """Yields what it may need to be told: nothing, its target, as OPUS-MT with several of them, or both.

        Languages that the configuration does not name are those of the corpus.
        """
        source, target, corpus = self.config.source_language, self.config.target_language, self.config.corpus
        yield source, target
        yield source, target or corpus.target
        yield source or corpus.source, target or corpus.target

    def problems(self) -> list[str]:
        """Returns a sentence for each reason why one that must be there cannot teach.

        What else a `.nemo` lacks, the jobs' own checks tell.
        """
        if not self.path.exists():
            return [f"teacher names '{self.path}', which does not exist."]
        if self.path.is_dir() and not is_folder_of_hugging_face(self.path):
            return [
                f"teacher names '{self.path}', which is a folder; it must be a .nemo, or the folder of a Hugging Face "
                "model."
            ]
        output = self.config.output_dir
        if self.path.is_dir() and output.resolve().is_relative_to(self.path.resolve()):
            return [f"output_dir={output}: lies in the teacher's folder, which it would change; take another."]
        return [f"teacher: {problem}" for problem in _problems(self.path, self.languages)]

    def of_trainings(self) -> list[str]:
        """Returns the overrides by which trainings and teacher caches take it as their teacher."""
        if is_folder_of_hugging_face(self.path):
            keys = [f"model.distillation.{key}" for key in KEYS]
        else:  # a student of NeMo's multilingual models learns one of their languages
            keys = [f"model.{key}" for key in LANGUAGE_KEYS]
        return [path_override("model.distillation.model_path", self.path), *self._told(keys)]

    def of_labels(self) -> list[str]:
        """Returns the overrides by which labels take it as their model."""
        return [path_override("model", self.path), *self._told(KEYS)]

    def _told(self, keys: Sequence[str]) -> list[str]:
        return [f"{key}={language}" for key, language in zip(keys, self.languages) if language]


@cache
def _problems(path: Path, languages: Languages) -> list[str]:
    """Returns a sentence for each reason why a model cannot translate between the languages."""
    if path.is_dir():
        return engine_problems(engine_of(path), [path], None, *languages)
    try:
        return nemo_languages(NemoArchive(path).config, languages)[1] if path.is_file() else []
    except ValueError:
        return []
