"""From a corpus to a table, by the project's own commands: trains a teacher, or takes one, has it translate text,
trains baselines and distilled students, and compares them on a test set.

Every step is a command that could be typed; it runs in a process of its own and is left out when it has finished
before. An interrupted one goes on where it was.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.progress import track

from nemo_distill.core.config import ConfigurationError, check_missing
from nemo_distill.core.console import console
from nemo_distill.data.demo_corpus import write_demo_corpus
from nemo_distill.data.output_files import write_json
from nemo_distill.decoding.engine import translate_stream
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.results_table import Result
from nemo_distill.evaluation.scores import bleu

# Of a baseline whose tokenizers come from a teacher that is there.
WITHOUT_TEACHER = ("model.distillation.distillation_loss_weight=0", "model.distillation.student_train_loss_weight=1")


@dataclass(frozen=True)
class Run:
    """One step.

    Args:
        group: what the seeds of one model have in common.
        seed: of the training.
        folder: for what the step leaves.
        command: what does it; nothing, for a teacher that is there.
        model_path: the `.nemo` that a training leaves; None for a step that translates.
    """

    group: str
    seed: int
    folder: Path
    command: tuple[str, ...]
    model_path: Path | None

    @property
    def record_path(self) -> Path:
        """What is written when the step has finished."""
        return self.folder / "finished.json"

    def finished(self) -> dict[str, Any] | None:
        """The `arguments` and the `seconds` of the step that has finished in the folder; None if none has."""
        return json.loads(self.record_path.read_text(encoding="utf-8")) if self.record_path.is_file() else None


def check_comparison(cfg: DictConfig, scripts: Path) -> None:
    """Checks that the corpus is there or can be generated, and that no run's folder holds another run's result.

    Raises:
        ConfigurationError: with every problem found.
    """
    problems = check_missing(cfg)
    problems += [
        f"methods.{group}: another model of the comparison has this name; take another."
        for group in cfg.methods
        if group in (*cfg.baselines, "teacher")
    ]
    if isinstance(cfg.teacher, str) and not Path(cfg.teacher).is_file():
        problems.append(f"teacher names '{cfg.teacher}', which does not exist.")
    if not problems and not cfg.corpus.get("generate"):
        missing = [str(file) for file in _corpus_files(cfg.corpus) if not file.is_file()]
        problems += [f"corpus.folder={cfg.corpus.folder} lacks {', '.join(missing)}."] if missing else []
    if not problems:
        problems += [
            f"'{run.folder}' holds the model of another command; delete it, or set another output_dir."
            for run in plan_runs(cfg, scripts)
            if (record := run.finished()) and record["arguments"] != list(run.command[1:])
        ]
    if not problems and (written := _generated_with(cfg.corpus)) and written != dict(cfg.corpus.get("generate") or {}):
        problems.append(
            f"corpus.folder={cfg.corpus.folder} holds a corpus generated with {written}; delete it, or set another "
            "output_dir."
        )
    if problems:
        raise ConfigurationError(problems)


def _generated_with(corpus: DictConfig) -> dict[str, int]:
    record = Path(corpus.folder) / "generated_with.json"
    return json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}


def prepare_corpus(corpus: DictConfig) -> None:
    """Writes the demo corpus, where the config asks for one and it is not there yet."""
    if corpus.get("generate") and not _generated_with(corpus):
        console.info(f"Writing the demo corpus to {corpus.folder}")
        settings = OmegaConf.to_container(corpus.generate)
        write_demo_corpus(corpus.folder, **settings)
        (Path(corpus.folder) / "generated_with.json").write_text(json.dumps(settings), encoding="utf-8")


def _corpus_files(corpus: DictConfig) -> list[Path]:
    parts = ("train", corpus.validation, corpus.test)
    languages = (corpus.source, corpus.target)
    return [Path(corpus.folder) / f"{part}.{language}" for part in parts for language in languages]


def plan_runs(cfg: DictConfig, scripts: Path) -> Iterator[Run]:
    """Yields the steps in order: the teacher, then for each seed all of `cfg.baselines` and of `cfg.methods`.

    Each of `cfg.labels` comes before the first method that reads its text.
    """
    output = Path(cfg.output_dir)
    shared = [*_data_overrides(cfg.corpus), *cfg.overrides]
    plain = (sys.executable, str(scripts / "enc_dec_nmt.py"), "--config-name", "aayn_base")
    distil = (sys.executable, str(scripts / "enc_dec_nmt_distill.py"), "--config-name", "aayn_base_distill")

    def run(group: str, seed: int, command: Sequence[str], overrides: Sequence[str]) -> Run:
        folder = output / (group if group == "teacher" else f"{group}_seed{seed}")
        command = (*command, *shared, *overrides, f"seed={seed}", *_logging_overrides(folder))
        return Run(group, seed, folder, command, folder / "model.nemo")

    if isinstance(cfg.teacher, str):
        teacher = Run("teacher", 0, output / "teacher", (), Path(cfg.teacher))
        alone, alone_overrides = distil, [f"model.distillation.model_path={cfg.teacher}", *WITHOUT_TEACHER]
    else:
        teacher = run("teacher", 0, plain, [*_preprocessing_overrides(cfg, output), *cfg.teacher])
        alone, alone_overrides = plain, _tokenizer_overrides(cfg, output)
    yield teacher
    labels = [_label_run(name, overrides, teacher, output, scripts) for name, overrides in cfg.labels.items()]
    from_teacher = f"model.distillation.model_path={teacher.model_path}"
    for seed in cfg.seeds:
        for group, overrides in cfg.baselines.items():
            yield run(group, seed, alone, [*alone_overrides, *cfg.students, *_flat(overrides)])
        for group, overrides in cfg.methods.items():
            overrides = [*cfg.students, from_teacher, *_flat(overrides)]
            read = [label for label in labels if any(label.text in override for override in overrides)]
            labels = [label for label in labels if label not in read]
            yield from (label.run for label in read)
            yield run(group, seed, distil, overrides)


class LabelStep(NamedTuple):
    """A step that translates, and the path of the source text that it writes."""

    text: str
    run: Run


def _label_run(name: str, overrides: ListConfig, teacher: Run, output: Path, scripts: Path) -> LabelStep:
    folder = output / f"labels_{name}"
    given = [f"model={teacher.model_path}", f"output_dir={folder}", "name=pseudo", *_flat(overrides)]
    values = dict(override.split("=", 1) for override in given)
    command = (sys.executable, str(scripts / "generate_pseudo_labels.py"), *given)
    run = Run(f"labels_{name}", 0, folder, command, None)
    return LabelStep(f"{values['output_dir']}/{values['name']}.src", run)


def _preprocessing_overrides(cfg: DictConfig, output: Path) -> list[str]:
    sizes = [f"model.{side}_tokenizer.vocab_size={cfg.vocab_size}" for side in ("encoder", "decoder")]
    return [f"model.preproc_out_dir={output / 'tokenizer'}", *sizes]


def _tokenizer_overrides(cfg: DictConfig, output: Path) -> list[str]:
    tokenizer = output / "tokenizer" / f"shared_tokenizer.{cfg.vocab_size}.BPE.model"
    return [f"model.{side}_tokenizer.tokenizer_model={tokenizer}" for side in ("encoder", "decoder")]


def _flat(overrides: ListConfig) -> Iterator[str]:
    """Yields the overrides of a list that may name other lists of the config, as in `["${wide}", seed=1]`."""
    for override in overrides:
        if isinstance(override, ListConfig):
            yield from _flat(override)
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


def execute(run: Run) -> float:
    """Does a step unless it has been done before, and returns its wall time in seconds.

    Raises:
        SystemExit: if the step fails or is interrupted, with what to do next.
    """
    if not run.command:
        return 0.0
    if record := run.finished():
        console.info(f"{run.folder.name}: finished before")
        return record["seconds"]
    console.info(f"\n{run.folder.name}:\n  python {' '.join(run.command[1:])}\n")
    started = time.monotonic()
    try:
        subprocess.run(run.command, check=True)
    except (subprocess.CalledProcessError, KeyboardInterrupt) as error:
        raise SystemExit(f"\n{run.folder.name} did not finish; the same command goes on from there.") from error
    seconds = time.monotonic() - started
    if run.model_path:
        (written,) = (run.folder / "checkpoints").glob("*.nemo")
        written.replace(run.model_path)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_json(run.record_path, {"arguments": run.command[1:], "seconds": seconds})
    return seconds


def score(run: Run, training_seconds: float, cfg: DictConfig) -> Result:
    """Restores a run's model as NeMo's own class, translates the test set and scores it against the raw references."""
    from nemo_distill.decoding.engines import load_engine

    sources, references = (
        _read_lines(Path(cfg.corpus.folder) / f"{cfg.corpus.test}.{language}")
        for language in (cfg.corpus.source, cfg.corpus.target)
    )
    engine = load_engine("nemo_distill", [run.model_path])
    settings = SearchSettings(beam_size=cfg.beam_size)
    started = time.monotonic()
    stream = track(
        translate_stream(engine, sources, settings, chunk=128), run.folder.name, len(sources), transient=True
    )
    translations = [translation.text for translation in stream]
    seconds = time.monotonic() - started
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "test.translations").write_text("".join(f"{line}\n" for line in translations), encoding="utf-8")
    result = bleu(translations, references)
    parameters = sum(parameter.numel() for parameter in engine.model.parameters())
    return Result(
        run.group,
        run.seed,
        run.group in cfg.methods,
        parameters,
        result.value,
        result.signature,
        training_seconds,
        seconds,
    )


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")
