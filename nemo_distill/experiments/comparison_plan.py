"""Plans the steps of a comparison as a list of commands: teacher, preparations, baselines and distilled students."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.config.checks import walked
from nemo_distill.config.overrides import parsed, path_override
from nemo_distill.experiments.compared_teacher import ComparedTeacher
from nemo_distill.experiments.comparison_section import (
    REVERSE,
    TEACHER,
    ComparisonConfig,
    data_overrides,
    system_name,
)
from nemo_distill.experiments.equal_steps import with_length
from nemo_distill.experiments.sweep import job_command
from nemo_distill.storage.ledger import Work, fingerprint
from nemo_distill.storage.records import OPEN, read_json
from nemo_distill.storage.shard_folder import MANIFEST
from nemo_distill.text.lines import expand_paths

PLAIN_SMOOTHING = "model.label_smoothing=0.1"  # conf/aayn_base.yaml's; conf/aayn_base_distill.yaml has 0
SIDE_OF_LANGUAGE, OTHER_SIDE = re.compile(r"(?<=model\.)(src|tgt)(?=_language=)"), {"src": "tgt", "tgt": "src"}
GROUPS = ("student=", "schedule=")
SHOWN_OVERRIDES = 3  # of those that an earlier command had, or had not
TOKENIZER, REVERSE_TOKENIZER = "tokenizer", "reverse_tokenizer"  # folders that the first training of each writes
# What labels write if a key asks for it, by its ending.
OPTIONAL_TEXTS = {"weights": "label_weights", "dropped.tsv": "keep_dropped", "hypotheses.tsv": "keep_hypotheses"}
# Of a baseline whose tokenizers come from a teacher that is there.
WITHOUT_TEACHER = ("model.distillation.distillation_loss_weight=0", "model.distillation.student_train_loss_weight=1")


@with_config(OPEN)
class Finished(TypedDict):
    """What the record of a finished step holds."""

    settings: NotRequired[dict[str, Any]]
    inputs: NotRequired[dict[str, str]]
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
        named: texts in its overrides that may name files, but none that a step makes.
        made: the paths that it creates. Overrides of other steps may contain them.
    """

    group: str
    seed: int
    folder: Path
    arguments: tuple[str, ...]
    model_path: Path | None
    needs: tuple["Run", ...] = ()
    named: tuple[str, ...] = ()
    made: tuple[Path, ...] = ()

    @property
    def is_done(self) -> bool:
        """True if there is nothing to do, or no more."""
        return not self.arguments or (self.finished_path.is_file() and not self._has_lost_text)

    @property
    def _has_lost_text(self) -> bool:
        """True if text that it wrote into the folder of another step has gone, with that folder."""
        written = (path for path in self.made if path.suffix in (".src", ".tgt") and self.folder not in path.parents)
        return not all(path.is_file() for path in written)

    @property
    def is_ready(self) -> bool:
        """True if all required steps are finished."""
        return all(run.is_done for run in self.needs)

    @property
    def job(self) -> str:
        """The job of `nemo-distill` that the step is."""
        return self.arguments[len(job_command("")) - 1]

    @property
    def overrides(self) -> tuple[str, ...]:
        """The overrides of the job."""
        return self.arguments[len(job_command("")) :]

    @property
    def texts(self) -> Iterator[str]:
        """The texts in the values of the overrides, some of which name files."""
        values = [parsed(override)[1] for override in self.overrides]
        return (part for _, _, part in walked(values) if isinstance(part, str))

    @cached_property
    def texts_as_paths(self) -> frozenset[Path]:
        """All of `texts` as paths."""
        return frozenset(map(Path, self.texts))

    def is_named_in(self, other: "Run") -> bool:
        """True if the value of an override of another step, or a part of it, is a path that this step creates."""
        return not other.texts_as_paths.isdisjoint(self.made)

    @property
    def lock_path(self) -> Path:
        """The file that is locked while the step runs."""
        return self.folder.parent / ".locks" / self.folder.name

    @property
    def log_path(self) -> Path:
        """The file that the step prints into, if others run at the same time."""
        return self.folder.parent / "logs" / f"{self.folder.name}.log"

    @property
    def finished_path(self) -> Path:
        """The record written at the end."""
        return self.folder / "finished.json"

    @property
    def begun_path(self) -> Path:
        """The record written at the start. It lies outside the folder, where NeMo moves files when it resumes."""
        return self.lock_path.with_name(f"{self.folder.name}.json")

    @property
    def work(self) -> Work:
        """The records of the step, and its arguments and the files that it reads as they are now."""
        return Work(
            self.finished_path, {"arguments": list(self.arguments)}, self.begun_path, Finished, self._read_inputs
        )

    def _read_inputs(self) -> dict[str, str]:
        """Returns the SHA-256 of each file that is named, if it is there, and what identifies the steps before it.

        A corpus may be generated later. Of a folder of labels or of a cache, the list of its files stands for them. A
        Hugging Face model's folder counts as a file.
        """
        named = [path for text in self.named for path in (*expand_paths(text), Path(text, MANIFEST))]
        read = [path for path in named if path.is_file()]
        read += [Path(text) for text in self.named if text and Path(text, "config.json").is_file()]  # of Hugging Face
        inputs = {str(path): fingerprint(path)["sha256"] for path in read}
        return inputs | {str(run.folder): run.identity for run in self.needs if run.arguments}

    @property
    def identity(self) -> str:
        """A digest of the step's arguments and inputs, as they were when it was done, if it is done."""
        work = self.work
        inputs = (work.finished() or {}).get("inputs") or work.inputs
        return hashlib.sha256(json.dumps([self.arguments, inputs], sort_keys=True).encode()).hexdigest()

    def changes(self) -> list[str]:
        """Returns how the earlier work in the folder, if there is any, differs from what the step would do now."""
        work = self.work
        change = [f"its command was another one{self._other_overrides()}"] if work.changed_settings() else []
        return [*change, *work.changed_inputs()]

    def _other_overrides(self) -> str:
        """Says which overrides the earlier command had, and which it had not."""
        record = read_json(self.begun_path) or read_json(self.finished_path) or {}
        earlier, now = ((record.get("settings") or {}).get("arguments", ()), self.arguments)
        had, had_not = ([one for one in some if one not in other] for some, other in ((earlier, now), (now, earlier)))
        found = {"with": had, "without": had_not} if earlier else {}
        return "".join(
            f", {how} {', '.join(some[:SHOWN_OVERRIDES])}{', ...' * (len(some) > SHOWN_OVERRIDES)}"
            for how, some in found.items()
            if some
        )

    @property
    def earlier_seconds(self) -> float:
        """Wall time of attempts that failed or were interrupted."""
        return (read_json(self.begun_path) or {}).get("seconds", 0.0)


def plan_runs(config: ComparisonConfig) -> Iterator[Run]:
    """Yields the steps in order: the teacher, then for each seed all of `config.baselines` and of `config.methods`.

    Models that `config.one_seed` names have the first seed alone, and come last. But every step comes before the first
    one that reads what it makes: the reverse model, each of `config.labels` and `config.caches`, and students.
    """
    earlier: list[Run] = []
    steps = list(_steps(config))
    made = _made(config, steps)
    for step in steps:
        # Of the teacher all need at least the tokenizers, wherever it has them from.
        needs = earlier[:1] + [other for other in earlier[1:] if other.is_named_in(step)]
        named = dict.fromkeys(text for text in step.texts if made.isdisjoint((Path(text), *Path(text).parents)))
        earlier.append(replace(step, needs=tuple(needs), named=tuple(named)))
        yield earlier[-1]


def _made(config: ComparisonConfig, steps: Sequence[Run]) -> set[Path]:
    """Returns the files and folders that the steps make."""
    made = {config.output_dir / folder for folder in (TOKENIZER, REVERSE_TOKENIZER)}
    return made | {path for step in steps if step.arguments for path in (step.folder, *step.made)}


def _steps(config: ComparisonConfig) -> Iterator[Run]:
    yield _teacher(config)
    teacher = ComparedTeacher(config)
    optional = [] if config.reverse is None else [_reverse(config, config.reverse)]
    optional += [_labels(config, name, teacher) for name in config.labels]
    optional += [_cache(config, name, teacher) for name in config.caches]
    groups = (*config.baselines, *config.methods)
    once = [_student(config, group, config.seeds[0], teacher) for group in groups if group in config.one_seed]
    often = [group for group in groups if group not in config.one_seed]
    students = [_student(config, group, seed, teacher) for seed in config.seeds for group in often] + once
    optional += students
    while step := next((one for one in optional if one in students), None):
        optional.remove(step)
        yield from _needed(step, optional)
        yield step


def _needed(step: Run, optional: list[Run]) -> Iterator[Run]:
    """Yields those of the optional steps that a step needs, in order, and removes them from the list."""
    while needed := next((one for one in optional if one.is_named_in(step)), None):
        optional.remove(needed)
        yield from _needed(needed, optional)
        yield needed


def _student(config: ComparisonConfig, group: str, seed: int, teacher: ComparedTeacher) -> Run:
    """The training of a baseline or of a method."""
    if group in config.methods:
        shared = [*_shared_overrides(config), *config.students, *teacher.of_trainings()]
        return _training(config, group, seed, "distill", with_length(config, shared, config.methods[group]))
    job, first, alone = _alone(config)
    shared = [*first, *_shared_overrides(config), *alone, *config.students]
    overrides = with_length(config, shared, config.baselines[group])
    return _training(config, group, seed, job, _with_groups(overrides) if job == "train" else overrides)


def _with_groups(overrides: Sequence[str]) -> list[str]:
    """Returns overrides of `distill` for `train`, whose configuration has no student and no schedule by default."""
    return [f"+{override}" if override.startswith(GROUPS) else override for override in overrides]


def _teacher(config: ComparisonConfig) -> Run:
    if isinstance(config.teacher, str):
        path = ComparedTeacher(config).path
        return Run(TEACHER, 0, config.output_dir / TEACHER, (), path, made=(path,))
    overrides = [*_shared_overrides(config), *_new_tokenizers(config, TOKENIZER), *config.teacher]
    return _training(config, TEACHER, 0, "train", overrides)


def _reverse(config: ComparisonConfig, own: Sequence[str]) -> Run:
    """Trains a model on the same text in the other direction, with the tokenizers of a teacher that is trained too."""
    corpus = replace(config.corpus, source=config.corpus.target, target=config.corpus.source)
    swapped = [SIDE_OF_LANGUAGE.sub(lambda side: OTHER_SIDE[side[0]], override) for override in config.overrides]
    tokenizers = _new_tokenizers(config, REVERSE_TOKENIZER) if isinstance(config.teacher, str) else _alone(config)[2]
    return _training(config, REVERSE, 0, "train", [*data_overrides(corpus), *swapped, *tokenizers, *own])


def _new_tokenizers(config: ComparisonConfig, folder: str) -> list[str]:
    sizes = [f"model.{side}_tokenizer.vocab_size={config.vocab_size}" for side in ("encoder", "decoder")]
    return [path_override("model.preproc_out_dir", config.output_dir / folder), *sizes]


def _alone(config: ComparisonConfig) -> tuple[str, list[str], list[str]]:
    """The job of a baseline, overrides that those of all trainings replace, and those that give it its tokenizers."""
    if isinstance(config.teacher, str):
        return "distill", [PLAIN_SMOOTHING], [*ComparedTeacher(config).of_trainings(), *WITHOUT_TEACHER]
    tokenizer = config.output_dir / TOKENIZER / f"shared_tokenizer.{config.vocab_size}.BPE.model"
    return (
        "train",
        [],
        [path_override(f"model.{side}_tokenizer.tokenizer_model", tokenizer) for side in ("encoder", "decoder")],
    )


def _training(config: ComparisonConfig, group: str, seed: int, job: str, overrides: Sequence[str]) -> Run:
    folder = config.output_dir / (group if group in (TEACHER, REVERSE) else system_name(group, seed))
    arguments = (*job_command(job), *overrides, f"seed={seed}", *_logging_overrides(folder))
    model = folder / "model.nemo"
    return Run(group, seed, folder, arguments, model, made=(model,))


def _labels(config: ComparisonConfig, name: str, teacher: ComparedTeacher) -> Run:
    folder = config.output_dir / f"labels_{name}"
    own = config.labels[name]
    is_its_own = any(parsed(one)[0] == "model" for one in own)  # of another model
    model = [path_override("model", teacher.path)] if is_its_own else teacher.of_labels()
    given = [*model, path_override("output_dir", folder), "name=pseudo", *own]
    values = dict(map(parsed, given))
    written = Path(values["output_dir"])
    optional = [ending for ending, key in OPTIONAL_TEXTS.items() if values.get(key)]
    made = [written / f"{values['name']}.{ending}" for ending in ("src", "tgt", *optional)]
    made += [folder] if written == folder else []  # others select from the translations in that folder
    return Run(f"labels_{name}", 0, folder, (*job_command("label"), *given), None, made=tuple(made))


def _cache(config: ComparisonConfig, name: str, teacher: ComparedTeacher) -> Run:
    folder = config.output_dir / f"cache_{name}"
    where = path_override("model.distillation.teacher_cache", folder)
    given = [*_shared_overrides(config), *teacher.of_trainings(), where, *config.caches[name]]
    return Run(f"cache_{name}", 0, folder, (*job_command("cache"), *given), None, made=(folder,))


def _shared_overrides(config: ComparisonConfig) -> list[str]:
    return [*data_overrides(config.corpus), *config.overrides]


def _logging_overrides(folder: Path) -> list[str]:
    parameters = "+exp_manager.checkpoint_callback_params"
    return [
        path_override("+exp_manager.explicit_log_dir", folder),
        "+exp_manager.resume_if_exists=true",
        "+exp_manager.resume_ignore_no_checkpoint=true",
        f"{parameters}.monitor=val_sacreBLEU",
        f"{parameters}.mode=max",
        f"{parameters}.save_top_k=1",
        f"{parameters}.save_best_model=true",
    ]
