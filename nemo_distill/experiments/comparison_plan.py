"""The steps of a comparison, as commands in order: a teacher, what it prepares, baselines and distilled students."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig
from typing_extensions import TypedDict

from nemo_distill.experiments.job_process import job_command
from nemo_distill.storage.records import read_json

PLAIN_SMOOTHING = "model.label_smoothing=0.1"  # conf/aayn_base.yaml's; conf/aayn_base_distill.yaml has 0
KINDS = ("baselines", "methods", "labels", "caches")  # of steps that a config names, each with its overrides
# Of a baseline whose tokenizers come from a teacher that is there.
WITHOUT_TEACHER = ("model.distillation.distillation_loss_weight=0", "model.distillation.student_train_loss_weight=1")


class Begun(TypedDict):
    """What a step leaves that begins."""

    arguments: list[str]


class Finished(Begun):
    """What a step leaves that has finished."""

    seconds: float


@dataclass(frozen=True)
class Run:
    """One step.

    Args:
        group: what the seeds of one model have in common.
        seed: of the training.
        folder: for what the step leaves.
        arguments: what this Python is started with to do it; nothing, for a teacher that is there.
        model_path: the `.nemo` that a training leaves; None for a step that translates.
        needs: steps that must have finished before.
    """

    group: str
    seed: int
    folder: Path
    arguments: tuple[str, ...]
    model_path: Path | None
    needs: tuple["Run", ...] = ()

    @property
    def is_done(self) -> bool:
        """True if there is nothing to do, or no more."""
        return not self.arguments or self.record_path.is_file()

    @property
    def is_ready(self) -> bool:
        """True if all is done that the step needs."""
        return all(run.is_done for run in self.needs)

    @property
    def command(self) -> list[str]:
        """What does the step: its arguments after this Python."""
        return [sys.executable, *self.arguments]

    @property
    def record_path(self) -> Path:
        """What is written when the step has finished."""
        return self.folder / "finished.json"

    @property
    def lock_path(self) -> Path:
        """What the process that does the step has locked."""
        return self.folder.parent / ".locks" / self.folder.name

    @property
    def begun_path(self) -> Path:
        """What is written when the step begins: outside its folder, where NeMo moves files when it resumes."""
        return self.lock_path.with_name(f"{self.folder.name}.json")

    def begun_with(self) -> Iterator[list[str]]:
        """Yields the arguments of what began in the folder and of what has finished there, as far as there is any."""
        records = (read_json(self.begun_path, Begun), self.finished())
        yield from (record["arguments"] for record in records if record is not None)

    def finished(self) -> Finished | None:
        """The `arguments` and the `seconds` of the step that has finished in the folder; None if none has."""
        return read_json(self.record_path, Finished)


class Step(NamedTuple):
    """A step, its overrides, and the paths of what it makes, by which other steps' overrides may name it."""

    run: Run
    overrides: Sequence[str]
    made: Sequence[Path]

    def is_named_in(self, overrides: Sequence[str]) -> bool:
        """True if the value of an override, or a part of one, is a path of what this step makes."""
        return any(Path(text) in self.made for override in overrides for text in _texts(parsed(override)[1]))


@cache
def parsed(override: str) -> tuple[str, Any]:
    """Returns an override's key and its value, as Hydra reads them; None is the value of one that deletes.

    Raises:
        OverrideParseException: if Hydra could not read it.
    """
    (found,) = OverridesParser.create().parse_overrides([override])
    return found.key_or_group, found.value()


def _texts(value: Any) -> Iterator[str]:
    """Yields the strings in a value, also those of lists and of sections."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def plan_runs(cfg: DictConfig) -> Iterator[Run]:
    """Yields the steps in order: the teacher, then for each seed all of `cfg.baselines` and of `cfg.methods`.

    Models that `cfg.one_seed` names have the first seed alone, and come last. Each of `cfg.labels` and of `cfg.caches`
    comes before the first step that reads what it makes.
    """
    earlier: list[Step] = []
    for step in _steps(cfg):
        # Of the teacher all need at least the tokenizers, wherever it has them from.
        needs = earlier[:1] + [other for other in earlier[1:] if other.is_named_in(step.overrides)]
        earlier.append(step._replace(run=replace(step.run, needs=tuple(other.run for other in needs))))
        yield earlier[-1].run


def _steps(cfg: DictConfig) -> Iterator[Step]:
    teacher = _teacher(cfg)
    yield teacher
    (model,) = teacher.made
    preparations = [_labels(cfg, name, model) for name in cfg.labels]
    preparations += [_cache(cfg, name, model) for name in cfg.caches]
    job, first, alone = _alone(cfg)
    once = set(cfg.get("one_seed", ()))
    several = {*cfg.baselines, *cfg.methods} - once
    for seed, groups in [*((seed, several) for seed in cfg.seeds), (cfg.seeds[0], once)]:
        for group in (group for group in cfg.baselines if group in groups):
            overrides = list(flat_overrides([*alone, cfg.students, cfg.baselines[group]]))
            yield _training(cfg, f"{group}_seed{seed}", group, seed, job, overrides, first)
        for group in (group for group in cfg.methods if group in groups):
            overrides = list(flat_overrides([cfg.students, _from_teacher(model), cfg.methods[group]]))
            yield from _needed(overrides, preparations)
            yield _training(cfg, f"{group}_seed{seed}", group, seed, "distill", overrides)


def _needed(overrides: Sequence[str], preparations: list[Step]) -> Iterator[Step]:
    """Yields those of the preparations that a step names, after those that they name, and takes them off the list."""
    while preparation := next((one for one in preparations if one.is_named_in(overrides)), None):
        preparations.remove(preparation)
        yield from _needed(preparation.overrides, preparations)
        yield preparation


def _teacher(cfg: DictConfig) -> Step:
    if isinstance(cfg.teacher, str):
        path = Path(cfg.teacher)
        return Step(Run("teacher", 0, Path(cfg.output_dir) / "teacher", (), path), (), (path,))
    sizes = [f"model.{side}_tokenizer.vocab_size={cfg.vocab_size}" for side in ("encoder", "decoder")]
    preprocessing = [f"model.preproc_out_dir={Path(cfg.output_dir) / 'tokenizer'}", *sizes]
    return _training(cfg, "teacher", "teacher", 0, "train", [*preprocessing, *flat_overrides(cfg.teacher)])


def _alone(cfg: DictConfig) -> tuple[str, list[str], list[str]]:
    """The job of a baseline, overrides that those of all trainings replace, and those that give it its tokenizers."""
    if isinstance(cfg.teacher, str):
        return "distill", [PLAIN_SMOOTHING], [_from_teacher(cfg.teacher), *WITHOUT_TEACHER]
    tokenizer = Path(cfg.output_dir) / "tokenizer" / f"shared_tokenizer.{cfg.vocab_size}.BPE.model"
    return "train", [], [f"model.{side}_tokenizer.tokenizer_model={tokenizer}" for side in ("encoder", "decoder")]


def _from_teacher(model: Path | str) -> str:
    return f"model.distillation.model_path={model}"


def _training(
    cfg: DictConfig, name: str, group: str, seed: int, job: str, overrides: Iterable[str], first: Sequence[str] = ()
) -> Step:
    folder = Path(cfg.output_dir) / name
    given = [*first, *_shared_overrides(cfg), *overrides, f"seed={seed}", *_logging_overrides(folder)]
    run = Run(group, seed, folder, (*job_command(job), *given), folder / "model.nemo")
    return Step(run, given, (folder / "model.nemo",))


def _labels(cfg: DictConfig, name: str, teacher: Path) -> Step:
    folder = Path(cfg.output_dir) / f"labels_{name}"
    given = [f"model={teacher}", f"output_dir={folder}", "name=pseudo", *flat_overrides(cfg.labels[name])]
    values = dict(map(parsed, given))
    made = [Path(values["output_dir"]) / f"{values['name']}.{ending}" for ending in ("src", "tgt")]
    return Step(Run(f"labels_{name}", 0, folder, (*job_command("label"), *given), None), given, made)


def _cache(cfg: DictConfig, name: str, teacher: Path) -> Step:
    folder = Path(cfg.output_dir) / f"cache_{name}"
    where = f"model.distillation.teacher_cache={folder}"
    given = [*_shared_overrides(cfg), _from_teacher(teacher), where, *flat_overrides(cfg.caches[name])]
    return Step(Run(f"cache_{name}", 0, folder, (*job_command("cache"), *given), None), given, (folder,))


def given_overrides(cfg: DictConfig) -> Iterator[tuple[str, str]]:
    """Yields all overrides that a comparison's config gives to its steps, each with the key that it is given by."""
    sections = {f"{kind}.{name}": cfg[kind][name] for kind in KINDS for name in cfg[kind]}
    teacher = [] if isinstance(cfg.teacher, str) else cfg.teacher
    sections |= {"overrides": cfg.overrides, "students": cfg.students, "teacher": teacher}
    yield from ((key, override) for key, overrides in sections.items() for override in flat_overrides(overrides))
    yield from (("corpus", override) for override in _data_overrides(cfg.corpus))


def flat_overrides(overrides: Iterable[Any]) -> Iterator[str]:
    """Yields the overrides of a list that may name other lists of the config, as in `["${wide}", seed=1]`."""
    for override in overrides:
        if isinstance(override, ListConfig):
            yield from flat_overrides(override)
        else:
            yield override


def _shared_overrides(cfg: DictConfig) -> list[str]:
    return [*_data_overrides(cfg.corpus), *cfg.overrides]


def _data_overrides(corpus: DictConfig) -> list[str]:
    overrides = ["~model.test_ds"]
    for section, part in (("train_ds", "train"), ("validation_ds", corpus.validation)):
        for key, language in (("src", corpus.source), ("tgt", corpus.target)):
            overrides.append(f"model.{section}.{key}_file_name={Path(corpus.folder) / f'{part}.{language}'}")
    return overrides


def _logging_overrides(folder: Path) -> list[str]:
    parameters = "+exp_manager.checkpoint_callback_params"
    return [
        f"+exp_manager.explicit_log_dir={folder}",
        "+exp_manager.resume_if_exists=true",
        "+exp_manager.resume_ignore_no_checkpoint=true",
        f"{parameters}.monitor=val_sacreBLEU",
        f"{parameters}.mode=max",
        f"{parameters}.save_top_k=1",
        f"{parameters}.save_best_model=true",
    ]
