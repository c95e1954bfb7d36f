"""The jobs by name. Their modules are imported only when they run, so that --help is fast."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from nemo_distill.commands.command_line import hydra_main

CONFIG_PATH = ("--config-path", "-cp")


class Job(NamedTuple):
    """A job.

    Args:
        module: a module in this package. Its `main` runs the job with a composed config.
        config: the default config; `--config-name` selects another one.
        summary: a description in one line.
    """

    module: str
    config: str
    summary: str


JOBS = {
    "distill": Job("distill", "aayn_base_distill", "Train a student with a teacher."),
    "train": Job("train", "aayn_base", "Train a model on its own: a teacher, or a baseline."),
    "prepare": Job("prepare", "prepare", "Train tokenizers and write tarred data, before a training."),
    "label": Job("generate_pseudo_labels", "generate_pseudo_labels", "Translate text with a teacher, to learn from."),
    "mix": Job("mix_corpora", "mix_corpora", "Mix real and pseudo-labelled text in given proportions."),
    "cache": Job("cache_teacher", "cache_teacher", "Store a teacher's distributions over the training pairs."),
    "translate": Job("translate", "translate", "Translate a file or standard input, line by line."),
    "export": Job("export", "export", "Write a model for CTranslate2, Hugging Face or as ONNX."),
    "evaluate": Job("evaluate", "evaluate", "Score, compare and time models on test sets."),
    "explain": Job("explain", "explain", "Tell why a student is worse than its teacher, and what to change first."),
    "size": Job("size_student", "size_student", "List the students that are small enough, before any is trained."),
    "compare": Job("compare", "demo", "Train a teacher and students, and compare them."),
    "demo": Job("compare", "demo", "The same on a generated corpus; nothing must exist first."),
    "report": Job("report", "report", "Gather trainings and an evaluation into a page."),
    "card": Job("card", "model_card", "Write a model's card."),
    "serve": Job("demo_server", "demo_server", "Serve a page to try models on."),
}


def start_job(name: str, command_line: Sequence[str] | None = None) -> None:
    """Runs a job with Hydra.

    Args:
        name: the name of the job.
        command_line: a program and Hydra's arguments; None for the arguments of this process. A relative
            `--config-path` starts in the script's folder, as in Hydra, or with `command_line` in the working folder.
    """
    job, typed = JOBS[name], sys.argv

    def task(cfg: DictConfig) -> Any:
        sys.argv = typed  # Lightning uses it to start the other processes of a training
        return import_module(task.__module__).main(cfg)

    task.__module__ = f"{__package__}.{job.module}"  # Hydra uses its last part as the name of the job
    program, *arguments = command_line or typed
    sys.argv = [program, *_whole_paths(arguments, Path.cwd() if command_line else Path(program).parent)]
    hydra_main(job.config)(task)()


def _whole_paths(arguments: Sequence[str], folder: Path) -> list[str]:
    """Makes the path in `--config-path` absolute. Hydra would look for a relative path in packages."""
    whole = list(arguments)
    for number, argument in enumerate(arguments):
        option, equals, path = argument.partition("=")
        if option in CONFIG_PATH and equals:
            whole[number] = f"{option}={folder.absolute() / path}"
        elif option in CONFIG_PATH and number + 1 < len(arguments):
            whole[number + 1] = str(folder.absolute() / arguments[number + 1])
    return whole
