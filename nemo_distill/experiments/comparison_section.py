"""The configuration of a comparison."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from hydra.errors import OverrideParseException
from omegaconf import DictConfig
from pydantic import AfterValidator, Field

from nemo_distill.config.overrides import is_readable, parsed, path_override
from nemo_distill.config.section import Allowed, read_config, refuse, rule, section
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.evaluation_job import EvaluationSettings
from nemo_distill.evaluation.evaluation_sets import EvaluationSet
from nemo_distill.evaluation.speed import SpeedSettings
from nemo_distill.evaluation.systems import NAME
from nemo_distill.failures.settings import FailureSettings
from nemo_distill.storage.files import UserPath
from nemo_distill.text.languages import bleu_tokenization, first_lines, scored_language, tokenizer_problems

KINDS = ("baselines", "methods", "labels", "caches")  # of steps that a config names, each with its overrides
TEACHER, REVERSE = "teacher", "reverse"
NOT_OF_A_NAME = re.compile(r"[^\w+-]")  # of a test set


def _flat(overrides: Iterable[Any]) -> list[str]:
    """Returns the overrides of a list that may name other lists of the config, as in `["${wide}", seed=1]`."""
    found: list[str] = []
    for override in overrides:
        if isinstance(override, list):
            found += _flat(override)
        elif isinstance(override, str):
            found.append(_with_quotes(override))
        else:
            refuse(f"has {override}, which is no override")
    return found


def _with_quotes(override: str) -> str:
    """Returns an override with its value in quotes if that is a path that Hydra cannot read otherwise: `ö/train.de`.

    In a file, the path may come from another key, as in `source=${corpus.folder}/train.de`.
    """
    key, _, value = override.partition("=")
    if "/" not in value or value.startswith(tuple("[{'\"")) or is_readable(override):
        return override
    quoted = f"{key}={json.dumps(value, ensure_ascii=False)}"
    return quoted if is_readable(quoted) else override


def _different(seeds: list[int]) -> list[int]:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError("must be a list of different whole numbers, at least one")
    return seeds


# Hydra's overrides; a list among them stands for its own.
Overrides = Annotated[list[Any], AfterValidator(_flat), Allowed("a list of overrides")]


@section
class GeneratedCorpus:
    """The size of a generated corpus."""

    train: int = Field(ge=1)
    """Number of training pairs."""
    validation: int = Field(ge=1)
    """Number of validation pairs."""
    test: int = Field(ge=1)
    """Number of test pairs."""
    monolingual: int = Field(default=0, ge=0)
    """Number of German sentences without a translation."""
    seed: int = 0
    """The same seed and sizes give the same files."""


@section
class ComparedCorpus:
    """The text of a comparison: in a folder, `train` and the parts named here, each in both languages."""

    folder: str
    """The folder of the text: files such as `train.de` and `train.en`, one sentence per line."""
    source: str
    """The ending of the source files' names, such as `de`."""
    target: str
    """The ending of the target files' names; also the language by which BLEU splits words, unless the text is in a
    script without spaces and this is no such language."""
    validation: str = "val"
    """The validation files' names without their ending."""
    test: str | list[str] = "test"
    """The test files' names without their ending: of one test set, or of several."""
    monolingual: str | list[str] | None = None
    """Files in the source language only, for `labels` to refer to."""
    generate: GeneratedCorpus | None = None
    """Sizes of the corpus that is generated into the folder; null: the text is already there."""

    @property
    def tests(self) -> list[str]:
        """The names in `test`."""
        return [self.test] if isinstance(self.test, str) else self.test

    def problems(self) -> list[str]:
        """Returns a sentence for each test set that cannot be scored, or could not be told from another."""
        names = [one.name for one in self.test_sets()]
        problems = [] if names else ["test=[]: name at least one test set."]
        problems += [f"test names '{name}' twice." for name in sorted({x for x in names if names.count(x) > 1})]
        if self.generate and len(names) > 1:
            problems.append(f"test={self.tests}: the generated corpus has one test set; name one.")
        languages = {one.language for one in self.test_sets()}
        found = (tokenizer_problems(f"target={self.target}", bleu_tokenization(language)) for language in languages)
        return problems + [problem for several in found for problem in several]

    def test_sets(self) -> list[EvaluationSet]:
        """Returns the test sets."""
        return [self._test_set(name) for name in self.tests]

    def _test_set(self, name: str) -> EvaluationSet:
        source, target = (Path(self.folder) / f"{name}.{side}" for side in (self.source, self.target))
        language = scored_language(self.target, first_lines(target))
        return EvaluationSet(NOT_OF_A_NAME.sub("_", name), source, target, language)


@section
class ComparedFailures(FailureSettings):
    """Which failures are counted. If no training text is named, it is the text that the models are trained on."""

    @rule
    def words_without_effect(self) -> list[str]:
        return super().words_without_effect() if self.training_source else []


@section
class ComparedEvaluation(EvaluationSettings):
    """How the models of a comparison are scored, compared and timed."""

    failures: ComparedFailures | None = Field(default_factory=ComparedFailures)
    """What failures are counted; null: none."""
    speed: SpeedSettings | None = None
    """What is timed; null: nothing."""


@section
class ComparisonConfig:
    """The configuration of `compare`. It may have other keys: lists of overrides that these refer to."""

    output_dir: UserPath
    """The folder of the comparison; every step has a folder in it."""
    teacher: str | Overrides
    """A `.nemo` file, the folder of a Hugging Face model, or the overrides of the teacher's training, in addition to
    `overrides`."""
    corpus: ComparedCorpus
    """The text that the models are trained and tested with."""
    students: Overrides
    """Overrides of all baselines and methods, in addition to `overrides`."""
    seeds: Annotated[
        list[Annotated[int, Field(ge=0)]],
        AfterValidator(_different),
        Allowed("a list of different whole numbers, at least one"),
    ]
    """Every baseline and method is trained once per seed."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of each baseline and method, whatever its data. null: `trainer.max_steps` of `students`, or
    about as many as its `trainer.max_epochs` on the training text."""
    source_language: str | None = None
    """The language that a multilingual teacher reads, by any of its codes; null: `corpus.source`."""
    target_language: str | None = None
    """The language that a multilingual teacher writes; null: `corpus.target`."""
    overrides: Overrides = Field(default_factory=list)
    """Overrides of every training."""
    baselines: dict[str, Overrides] = Field(default_factory=dict)
    """Models that are trained without the teacher: names, and overrides in addition to `students`."""
    methods: dict[str, Overrides] = Field(default_factory=dict)
    """Models that are distilled from the teacher: names, and overrides in addition to `students`."""
    labels: dict[str, Overrides] = Field(default_factory=dict)
    """Text that the teacher translates: names, and overrides of the job `label`. With `model=...`, another model
    translates it, such as the reverse model."""
    reverse: Overrides | None = None
    """The overrides of the training of a reverse model, in addition to `overrides`: from the target to the source
    language, for back-translations. It becomes `reverse/model.nemo` in `output_dir`, if one of `labels` names it."""
    caches: dict[str, Overrides] = Field(default_factory=dict)
    """Teacher caches: names, and overrides of the job `cache`."""
    one_seed: list[str] = Field(default_factory=list)
    """Names of baselines and methods that are trained with the first seed only, after all others."""
    vocab_size: int | None = Field(default=None, ge=1)
    """Vocabulary size of the shared tokenizer; required if the teacher is trained."""
    beam_size: int = Field(default=4, ge=1)
    """Beam size of the translations that are scored; 1 is greedy search. As in `evaluate`, there is no length penalty,
    because engines differ in it, and exports would have no scores."""
    evaluation: ComparedEvaluation = Field(default_factory=ComparedEvaluation)
    """How the trained models are scored, compared and timed."""
    at_a_time: int = Field(default=1, ge=1)
    """Jobs that run at the same time. With several, each prints into a file, and they share the CPU's cores."""
    report: bool = False
    """Write a page on all trainings and their scores into `report/`. It needs the extra `plots`."""

    @property
    def search(self) -> SearchSettings:
        """How the models search for the translations that are scored."""
        return SearchSettings(beam_size=self.beam_size, length_penalty=0.0)

    def problems(self) -> list[str]:
        """Returns a sentence for each rule that several keys break."""
        problems = [*self._unreadable_overrides(), *self._name_problems()]
        if not isinstance(self.teacher, str):
            if self.vocab_size is None:
                problems.append("vocab_size has no value; give it, for the teacher is to be trained.")
            given = {"source_language": self.source_language, "target_language": self.target_language}
            problems += [
                f"{key}={language}: a teacher that is to be trained has no languages to choose from; remove it."
                for key, language in given.items()
                if language is not None
            ]
        groups = (*self.baselines, *self.methods)
        known = [TEACHER, *(system_name(group, seed) for seed in self.seeds for group in groups)]
        problems += [
            f"evaluation.significance.baselines names '{name}'; the systems are {', '.join(known)}."
            for name in self.evaluation.significance.baselines or ()
            if name not in known
        ]
        problems += [
            f"one_seed names '{name}'; the baselines and methods are {', '.join(groups)}."
            for name in self.one_seed
            if name not in groups
        ]
        if self.reverse is not None and self.vocab_size is None:
            problems.append("vocab_size has no value; give it, for the reverse model is to be trained.")
        return problems

    def _unreadable_overrides(self) -> Iterator[str]:
        given = {f"{kind}.{name}": found for kind in KINDS for name, found in getattr(self, kind).items()}
        given |= {"overrides": self.overrides, "students": self.students}
        given |= {} if isinstance(self.teacher, str) else {"teacher": self.teacher}
        given |= {} if self.reverse is None else {REVERSE: self.reverse}
        given["corpus"] = data_overrides(self.corpus)
        for key, override in ((key, override) for key, overrides in given.items() for override in overrides):
            try:
                parsed(override)
            except OverrideParseException as error:
                yield f"{key}: '{override}' is no override: {str(error).splitlines()[0]}."

    def _name_problems(self) -> Iterator[str]:
        taken, format = {TEACHER} if self.reverse is None else {TEACHER, REVERSE}, self.evaluation.export
        exports = {f"{group}_{format}": group for group in (TEACHER, *self.baselines, *self.methods) if format}
        for kind in ("baselines", "methods"):
            for group in getattr(self, kind):
                if group in exports:
                    yield (
                        f"{kind}.{group} has the name that the export of {exports[group]} gets; rename it, or set "
                        "evaluation.export=null."
                    )
                if group in taken:
                    yield f"{kind}.{group}: another model of the comparison has this name; take another."
                elif not NAME.fullmatch(group):
                    yield f"{kind}.{group}: a name may have letters, digits, _, +, - and dots."
                taken.add(group)


def system_name(group: str, seed: int) -> str:
    """Returns what a trained baseline or method is called: its folder, and in the evaluation."""
    return f"{group}_seed{seed}"


def read_comparison(cfg: DictConfig) -> ComparisonConfig:
    """Returns the comparison that a configuration describes.

    Raises:
        ConfigurationError: with every problem found.
    """
    return read_config(ComparisonConfig, with_plain_folder(cfg), other_keys=True)


def with_plain_folder(cfg: DictConfig) -> DictConfig:
    """Writes `output_dir` as paths write it, without `./` and a last slash, so that all that refers to it is equal."""
    folder = cfg.get("output_dir")
    if not isinstance(folder, str) or not folder:
        return cfg
    plain = cfg.copy()
    plain.output_dir = str(Path(folder))
    return plain


def data_overrides(corpus: ComparedCorpus) -> list[str]:
    """Returns the overrides by which a training reads the corpus."""
    overrides = ["~model.test_ds"]
    for part, name in (("train_ds", "train"), ("validation_ds", corpus.validation)):
        for key, language in (("src", corpus.source), ("tgt", corpus.target)):
            overrides.append(
                path_override(f"model.{part}.{key}_file_name", Path(corpus.folder) / f"{name}.{language}")
            )
    return overrides
