"""A recipe whose cost is asked: what is labelled, cached and trained on, with the keys of these jobs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory, mkstemp
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from nemo_distill.commands.cache_teacher import check_caching
from nemo_distill.commands.generate_pseudo_labels import check_labelling
from nemo_distill.commands.jobs import composed_job
from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.config.checks import suggestion
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.known_keys import JOB, Accelerator
from nemo_distill.config.override_mistakes import composition_problem
from nemo_distill.config.section import section
from nemo_distill.evaluation.student_sizes import StudentShape
from nemo_distill.pseudo_labels.teacher_section import TEXT_ONLY
from nemo_distill.text.files import InputFiles, input_files, not_parallel
from nemo_distill.text.lines import TextFiles, counted_sample, decoded

GROUPS = ("distillation", "schedule", "student")
SAMPLED = 12_000
SELECTING = ("selection", "metric", "metric_language", "labels_per_source", "label_weights", "more_labels", "quality")
FIRST_LINES = 1000  # that are enough to check a job's configuration
Pair = tuple[str, str]


@section
class Recipe:
    """What is to be done, for the bill. Without `source` there is none."""

    source: InputFiles | None = None
    """The text that is labelled, cached and trained on: a file, or several, plain or packed."""
    target: InputFiles | None = None
    """Its translations; null: the labels."""
    label: dict[str, Any] | None = Field(default_factory=dict)
    """Keys of `label`, such as `engine`; null: nothing is labelled."""
    cache: dict[str, Any] | None = None
    """Keys of `cache`, such as `cache.k`; null: there is no cache."""
    distill: dict[str, Any] | None = Field(default_factory=dict)
    """Keys of `distill`, such as `distillation`, `schedule` and `trainer.max_steps`; null: nothing is trained."""
    accelerator: Accelerator = "auto"
    """Lightning's, of all three."""
    seconds: float = Field(default=60.0, gt=0)
    """Seconds of a probe, without those of loading its model."""

    def problems(self) -> list[str]:
        """Returns a sentence if a text is missing, or if source and target are not parallel."""
        if self.distill and "student" in self.distill:
            return [f"distill.student={self.distill['student']}: leave it out; the bill has a row for each student."]
        if self.source is None:
            given = [key for key in ("target", "cache", "label", "distill") if getattr(self, key)]
            return [f"{key}={getattr(self, key)}: has no effect without source; give the text." for key in given]
        if self.target is None:
            learns = self.cache is not None or self.distill is not None
            return ["target has no value, and nothing is labelled; give it."] if learns and self.label is None else []
        return not_parallel(input_files(self.source), input_files(self.target))


def composed(job: str, keys: Mapping[str, Any], *overrides: str) -> DictConfig:
    """Returns the config of a job.

    Args:
        job: `label`, `cache` or `distill`.
        keys: its keys, nested, and the names of files in its groups, such as `{"distillation": "seq_level"}`.
        overrides: more keys, as on the command line.

    Raises:
        ConfigurationError: if a group has no such file, or for keys that the job does not have.
    """
    files = [f"{group}={keys[group]}" for group in GROUPS if isinstance(keys.get(group), str)]
    try:
        cfg = composed_job(job, [*overrides, *files])
    except HydraException as error:
        raise ConfigurationError([f"recipe.{job}: {composition_problem(error)}"]) from error
    OmegaConf.set_struct(cfg, False)
    own = {key: value for key, value in keys.items() if not isinstance(value, str) or key not in GROUPS}
    if problems := list(_key_problems(job, own, cfg)):
        raise ConfigurationError(problems)
    cfg.merge_with(own)
    return cfg


def _key_problems(job: str, keys: Mapping[str, Any], cfg: DictConfig) -> Iterator[str]:
    """Yields a sentence for each key that a job does not have, or that is a section there and has a value here."""
    known = sorted({*map(str, cfg), *((*JOB, *GROUPS) if job == "distill" else ())})
    for key, value in keys.items():
        if key in GROUPS and key in known:
            yield f"recipe.{job}.{key}={value}: must be the name of one of {key}'s files."
        elif key not in known:
            yield f"recipe.{job} has the unknown key '{key}'{suggestion(key, known)}."
        elif isinstance(cfg.get(key), DictConfig) and not isinstance(value, Mapping | None):
            yield f"recipe.{job}.{key}={value}: must be a section of keys."


@dataclass(frozen=True)
class RecipeConfigs:
    """The configs of a recipe's jobs.

    Args:
        recipe: the recipe.
        teacher: the `.nemo`.
        shared: the students' encoder and decoder share one embedding matrix.
    """

    recipe: Recipe
    teacher: Path
    shared: bool

    def label(self, sources: Sequence[Path], output: Path) -> DictConfig:
        """Returns the config of labelling the files of the text."""
        cfg = composed("label", self.recipe.label or {})
        cfg.update({"model": str(self.teacher), "output_dir": str(output), "source": list(map(str, sources))})
        cfg.accelerator = self.recipe.accelerator
        return cfg

    def label_sample(self, source: Path, output: Path) -> DictConfig:
        """Returns the config of labelling some lines of the text, which has no files about the other lines.

        A selection that reads such files is replaced by `one_best`; it costs next to nothing beside the search.
        """
        cfg = self.label([source], output)
        cfg.reference = None
        if cfg.selection == "interpolation" or cfg.more_labels or cfg.quality.file:
            plain = composed("label", {})
            cfg.update({key: plain[key] for key in SELECTING})
            if cfg.filters:
                cfg.filters.update({"quality_quantile": None, "consensus_quantile": None})
        return cfg

    def cache(self, files: Sequence[Sequence[Path]], output: Path) -> DictConfig:
        """Returns the config of caching the files of source and target."""
        cfg = composed("cache", self.recipe.cache or {})
        cfg.model.distillation.teacher_cache = str(output)
        return self._with_data(cfg, files)

    def distill(self, shape: StudentShape, files: Sequence[Sequence[Path]], cache: Path | None = None) -> DictConfig:
        """Returns the config of training on the files of source and target, without validation and checkpoints."""
        cfg = composed(
            "distill", self.recipe.distill or {}, *shape.overrides(), f"model.shared_embeddings={self.shared}"
        )
        cfg.exp_manager = None
        cfg.model.distillation.mix.corpora = {}  # the pairs are drawn from the text itself, which has no weights
        if cfg.model.distillation.mix.get("weighting") == "loss":
            cfg.model.distillation.mix.weighting = "pairs"
        for data in ("validation_ds", "test_ds"):
            cfg.model.pop(data, None)
        cfg = self._with_data(cfg, files)
        if cache is not None:
            cfg.model.distillation.update({"model_path": None, "teacher_cache": str(cache)})
        return cfg

    def _with_data(self, cfg: DictConfig, files: Sequence[Sequence[Path]]) -> DictConfig:
        names = zip(("src_file_name", "tgt_file_name"), files)
        cfg.model.train_ds.update({key: list(map(str, paths)) for key, paths in names})
        cfg.model.distillation.model_path = str(self.teacher)
        cfg.trainer.accelerator = self.recipe.accelerator
        return cfg


def check_recipe(configs: RecipeConfigs, shape: StudentShape, folder: Path) -> list[str]:
    """Returns a sentence for each problem of the jobs' configs, before anything is loaded.

    Args:
        configs: of a recipe with a text.
        shape: of a student.
        folder: a folder that does not exist.
    """
    recipe, problems = configs.recipe, list[str]()
    sources = input_files(recipe.source)
    with TemporaryDirectory() as plain:  # what is cached and trained on is written in plain text by the probes
        files = [[_beginning(side, Path(plain))] for side in (sources, input_files(recipe.target) or sources)]
        checks: Mapping[str, Callable[[], object]] = {
            "label": lambda: _check_labelling(configs.label(sources, folder)),
            "cache": lambda: check_caching(configs.cache(files, folder)),
            "distill": lambda: _check_distillation(configs.distill(shape, files)),
        }
        for job in (job for job in checks if getattr(recipe, job) is not None):
            try:
                checks[job]()
            except ConfigurationError as error:
                problems += [one if one.startswith("recipe.") else f"recipe.{job}: {one}" for one in error.problems]
    return problems


def _beginning(files: Sequence[Path], folder: Path) -> Path:
    """Writes the first lines of a text into a folder."""
    handle, name = mkstemp(dir=folder)
    with open(handle, "w", encoding="utf-8") as stream:
        stream.writelines(f"{decoded(line)}\n" for line in islice(TextFiles(files), FIRST_LINES))
    return Path(name)


def _check_labelling(cfg: DictConfig) -> None:
    if cfg.engine in TEXT_ONLY:
        raise ConfigurationError([f"engine={cfg.engine}: there is no teacher here whose time could be measured."])
    check_labelling(cfg)


def _check_distillation(cfg: DictConfig) -> None:
    check_distillation_job(cfg)
    if (cfg.trainer.get("max_steps") or -1) < 0:
        raise ConfigurationError(["trainer.max_steps has no value; give it, or schedule=study."])


class RecipeText:
    """The text of a recipe: how many lines it has, and a sample of them in random order.

    `sources` are sampled lines of the source, and `pairs` those with a translation.

    Args:
        recipe: a recipe with a text.
    """

    def __init__(self, recipe: Recipe):
        sources = TextFiles(input_files(recipe.source))
        targets = TextFiles(input_files(recipe.target)) if recipe.target else repeat(b"")
        generator = Random(0)
        self.lines, kept = counted_sample(zip(sources, targets), SAMPLED, generator)
        generator.shuffle(kept)
        texts = [(decoded(source), decoded(target)) for source, target in kept]
        self.sources = [source for source, _ in texts if source.strip()]
        self.pairs: list[Pair] = [pair for pair in texts if all(side.strip() for side in pair)]
