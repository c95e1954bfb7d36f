"""Plans the steps of a comparison as a list of commands: teacher, preparations, baselines and distilled students."""

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

PLAIN_SMOOTHING = "model.label_smoothing=0.1"  # as in conf/aayn_base.yaml; conf/aayn_base_distill.yaml has 0
KINDS = ("baselines", "methods", "labels", "caches")  # kinds of steps in a config; each step has a list of overrides
# For baselines that take their tokenizers from an existing teacher.
WITHOUT_TEACHER = ("model.distillation.distillation_loss_weight=0", "model.distillation.student_train_loss_weight=1")


class Begun(TypedDict):
    """The record written at the start of a step."""

    arguments: list[str]


class Finished(Begun):
    """The record written at the end of a step."""

    seconds: float


@dataclass(frozen=True)
class Run:
    """One step of a comparison.

    Args:
        group: models that differ only in their seed have the same group.
        seed: random seed of the training.
        folder: the output folder.
        arguments: the arguments of this Python for the step; empty for an existing teacher.
        model_path: the `.nemo` that a training writes; None for other steps.
        needs: steps that must be finished first.
    """

    group: str
    seed: int
    folder: Path
    arguments: tuple[str, ...]
    model_path: Path | None
    needs: tuple["Run", ...] = ()

    @property
    def is_done(self) -> bool:
        """True if the step is finished or has nothing to do."""
        return not self.arguments or self.record_path.is_file()

    @property
    def is_ready(self) -> bool:
        """True if all required steps are finished."""
        return all(run.is_done for run in self.needs)

    @property
    def command(self) -> list[str]:
        """The command of the step: this Python with its arguments."""
        return [sys.executable, *self.arguments]

    @property
    def record_path(self) -> Path:
        """The file that is written when the step is finished."""
        return self.folder / "finished.json"

    @property
    def lock_path(self) -> Path:
        """The file that is locked while the step runs."""
        return self.folder.parent / ".locks" / self.folder.name

    @property
    def begun_path(self) -> Path:
        """The file written at the start. It is outside the step's folder, where NeMo moves files when it resumes."""
        return self.lock_path.with_name(f"{self.folder.name}.json")

    def begun_with(self) -> Iterator[list[str]]:
        """Yields the arguments of the step started in this folder, and of the step finished there, if any."""
        records = (read_json(self.begun_path, Begun), self.finished())
        yield from (record["arguments"] for record in records if record is not None)

    def finished(self) -> Finished | None:
        """Returns `arguments` and `seconds` of the step finished in this folder; None if there is none."""
        return read_json(self.record_path, Finished)


class Step(NamedTuple):
    """A step, its overrides, and the paths that it creates. Overrides of other steps may contain these paths."""

    run: Run
    overrides: Sequence[str]
    made: Sequence[Path]

    def is_named_in(self, overrides: Sequence[str]) -> bool:
        """True if the value of an override, or a part of it, is a path that this step creates."""
        return any(Path(text) in self.made for override in overrides for text in _texts(parsed(override)[1]))


@cache
def parsed(override: str) -> tuple[str, Any]:
    """Returns the key and value of an override, as Hydra reads it. The value of a deletion is None.

    Raises:
        OverrideParseException: if Hydra cannot read it.
    """
    (found,) = OverridesParser.create().parse_overrides([override])
    return found.key_or_group, found.value()


def _texts(value: Any) -> Iterator[str]:
    """Yields the strings in a value, including those in lists and sections."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def plan_runs(cfg: DictConfig) -> Iterator[Run]:
    """Yields the steps in order: the teacher, then for each seed all `cfg.baselines` and `cfg.methods`.

    Models listed in `cfg.one_seed` are trained only with the first seed, at the end. Each step of `cfg.labels` and
    `cfg.caches` comes before the first step that reads its output.
    """
    earlier: list[Step] = []
    for step in _steps(cfg):
        # All steps need the teacher, at least for its tokenizers.
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
            overrides = flat_overrides([*alone, cfg.students, cfg.baselines[group]])
            yield _training(cfg, f"{group}_seed{seed}", group, seed, job, overrides, first)
        for group in (group for group in cfg.methods if group in groups):
            overrides = list(flat_overrides([cfg.students, _from_teacher(model), cfg.methods[group]]))
            yield from _needed(overrides, preparations)
            yield _training(cfg, f"{group}_seed{seed}", group, seed, "distill", overrides)


def _needed(overrides: Sequence[str], preparations: list[Step]) -> Iterator[Step]:
    """Yields the preparations that a step needs, in order, and removes them from the list."""
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
    """Returns a baseline's job, its default overrides, and the overrides that set its tokenizers."""
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
    """Yields all overrides in a comparison's config, each with its key in that config."""
    sections = {f"{kind}.{name}": cfg[kind][name] for kind in KINDS for name in cfg[kind]}
    teacher = [] if isinstance(cfg.teacher, str) else cfg.teacher
    sections |= {"overrides": cfg.overrides, "students": cfg.students, "teacher": teacher}
    yield from ((key, override) for key, overrides in sections.items() for override in flat_overrides(overrides))
    yield from (("corpus", override) for override in _data_overrides(cfg.corpus))


def flat_overrides(overrides: Iterable[Any]) -> Iterator[str]:
    """Yields the overrides of a list that may contain other lists, such as `["${wide}", seed=1]`."""
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
