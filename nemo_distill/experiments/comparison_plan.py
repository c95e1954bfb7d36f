"""The steps of a comparison, as commands in order: a teacher, what it prepares, baselines and distilled students."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, ListConfig
from typing_extensions import TypedDict

from nemo_distill.storage.records import read_json

PLAIN_SMOOTHING = "model.label_smoothing=0.1"  # conf/aayn_base.yaml's; conf/aayn_base_distill.yaml has 0
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
        command: what does it; nothing, for a teacher that is there.
        model_path: the `.nemo` that a training leaves; None for a step that translates.
        needs: steps that must have finished before.
    """

    group: str
    seed: int
    folder: Path
    command: tuple[str, ...]
    model_path: Path | None
    needs: tuple["Run", ...] = ()

    @property
    def is_done(self) -> bool:
        """True if there is nothing to do, or no more."""
        return not self.command or self.record_path.is_file()

    @property
    def is_ready(self) -> bool:
        """True if all is done that the step needs."""
        return all(run.is_done for run in self.needs)

    @property
    def arguments(self) -> list[str]:
        """The command, wherever the project lies."""
        return _named(self.command[1:])

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
        yield from (
            _named(record["arguments"])
            for record in (read_json(self.begun_path, Begun), self.finished())
            if record is not None
        )

    def finished(self) -> Finished | None:
        """The `arguments` and the `seconds` of the step that has finished in the folder; None if none has."""
        return read_json(self.record_path, Finished)


def _named(arguments: Sequence[str]) -> list[str]:
    """Returns a command's arguments with the script's name in place of its path."""
    script, *others = arguments
    return [Path(script).name, *others]


class Step(NamedTuple):
    """A step, and what of it other steps' overrides name: a model, the text of labels, or a teacher cache."""

    made: str
    run: Run

    def is_named_in(self, overrides: Sequence[str]) -> bool:
        """True if one of a step's overrides names what this one makes."""
        named = re.compile(re.escape(self.made) + r"(?![\w.-])")
        return any(named.search(override) for override in overrides)


def plan_runs(cfg: DictConfig, scripts: Path) -> Iterator[Run]:
    """Yields the steps in order: the teacher, then for each seed all of `cfg.baselines` and of `cfg.methods`.

    Models that `cfg.one_seed` names have the first seed alone, and come last. Each of `cfg.labels` and of `cfg.caches`
    comes before the first step that reads what it makes.
    """
    earlier: list[Step] = []
    for step in _steps(cfg, scripts):
        # Of the teacher all need at least the tokenizers, wherever it has them from.
        needs = earlier[:1] + [other for other in earlier[1:] if other.is_named_in(step.run.command)]
        earlier.append(step._replace(run=replace(step.run, needs=tuple(other.run for other in needs))))
        yield earlier[-1].run


def _steps(cfg: DictConfig, scripts: Path) -> Iterator[Step]:
    output = Path(cfg.output_dir)
    shared = [*_data_overrides(cfg.corpus), *cfg.overrides]
    plain = (sys.executable, str(scripts / "enc_dec_nmt.py"), "--config-name", "aayn_base")
    distil = (sys.executable, str(scripts / "enc_dec_nmt_distill.py"), "--config-name", "aayn_base_distill")

    def run(group: str, seed: int, command: Sequence[str], overrides: Sequence[str]) -> Step:
        folder = output / (group if group == "teacher" else f"{group}_seed{seed}")
        command = (*command, *shared, *overrides, f"seed={seed}", *_logging_overrides(folder))
        return Step(str(folder / "model.nemo"), Run(group, seed, folder, command, folder / "model.nemo"))

    if isinstance(cfg.teacher, str):
        teacher = Step(cfg.teacher, Run("teacher", 0, output / "teacher", (), Path(cfg.teacher)))
        alone = (*distil, PLAIN_SMOOTHING)  # first, so that an override of all trainings replaces it
        alone_overrides = [f"model.distillation.model_path={cfg.teacher}", *WITHOUT_TEACHER]
    else:
        teacher = run("teacher", 0, plain, [*_preprocessing_overrides(cfg, output), *flat_overrides(cfg.teacher)])
        alone, alone_overrides = plain, _tokenizer_overrides(cfg, output)
    yield teacher
    preparations = [_labels(name, node, teacher.made, output, scripts) for name, node in cfg.labels.items()]
    preparations += [_cache(name, node, teacher.made, output, scripts, shared) for name, node in cfg.caches.items()]
    from_teacher = f"model.distillation.model_path={teacher.made}"
    once = set(cfg.get("one_seed", ()))
    several = {*cfg.baselines, *cfg.methods} - once
    for seed, groups in [*((seed, several) for seed in cfg.seeds), (cfg.seeds[0], once)]:
        for group, overrides in cfg.baselines.items():
            if group in groups:
                yield run(
                    group, seed, alone, [*alone_overrides, *flat_overrides(cfg.students), *flat_overrides(overrides)]
                )
        for group, overrides in cfg.methods.items():
            if group in groups:
                overrides = [*flat_overrides(cfg.students), from_teacher, *flat_overrides(overrides)]
                yield from _needed(overrides, preparations)
                yield run(group, seed, distil, overrides)


def _needed(overrides: Sequence[str], preparations: list[Step]) -> Iterator[Step]:
    """Yields those of the preparations that a step names, after those that they name, and takes them off the list."""
    while preparation := next((one for one in preparations if one.is_named_in(overrides)), None):
        preparations.remove(preparation)
        yield from _needed(preparation.run.command, preparations)
        yield preparation


def _labels(name: str, overrides: ListConfig, teacher: str, output: Path, scripts: Path) -> Step:
    folder = output / f"labels_{name}"
    given = [f"model={teacher}", f"output_dir={folder}", "name=pseudo", *flat_overrides(overrides)]
    values = dict(override.split("=", 1) for override in given if "=" in override)
    command = (sys.executable, str(scripts / "generate_pseudo_labels.py"), *given)
    run = Run(f"labels_{name}", 0, folder, command, None)
    return Step(f"{values['output_dir']}/{values['name']}.src", run)


def _cache(name: str, overrides: ListConfig, teacher: str, output: Path, scripts: Path, shared: Sequence[str]) -> Step:
    folder = output / f"cache_{name}"
    where = f"model.distillation.teacher_cache={folder}"
    given = [*shared, f"model.distillation.model_path={teacher}", where, *flat_overrides(overrides)]
    command = (sys.executable, str(scripts / "cache_teacher.py"), *given)
    return Step(where, Run(f"cache_{name}", 0, folder, command, None))


def _preprocessing_overrides(cfg: DictConfig, output: Path) -> list[str]:
    sizes = [f"model.{side}_tokenizer.vocab_size={cfg.vocab_size}" for side in ("encoder", "decoder")]
    return [f"model.preproc_out_dir={output / 'tokenizer'}", *sizes]


def _tokenizer_overrides(cfg: DictConfig, output: Path) -> list[str]:
    tokenizer = output / "tokenizer" / f"shared_tokenizer.{cfg.vocab_size}.BPE.model"
    return [f"model.{side}_tokenizer.tokenizer_model={tokenizer}" for side in ("encoder", "decoder")]


def flat_overrides(overrides: ListConfig) -> Iterator[str]:
    """Yields the overrides of a list that may name other lists of the config, as in `["${wide}", seed=1]`."""
    for override in overrides:
        if isinstance(override, ListConfig):
            yield from flat_overrides(override)
        else:
            yield override


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
