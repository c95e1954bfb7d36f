"""The jobs by name, and the command `nemo-distill` that runs them: a job's name, then Hydra's arguments.

Their modules are imported only when they run, so that --help is fast.
"""

import difflib
import functools
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from nemo_distill import __version__
from nemo_distill.config.override_mistakes import MISTAKES, PLAIN_KEYS, UNTOLD, in_words, is_meant, mistake_behind
from nemo_distill.config.overrides import CONF, config_with_home, with_home

ARGPARSE = re.compile(r"(?<=error: ).*")
CONFIG_PATH = ("--config-path", "-cp")
CONFIG_NAME = re.compile(r"(?:--config-name|-cn)[=\0](?P<name>[^\0]*)")
HELP_OPTIONS = {"-h", "--help"}
PROGRAM = "nemo-distill"
COMPLETION, COMPLETED = ("-sc", "--shell-completion"), re.compile("(install|uninstall|query)=")
TYPED = re.compile(r"\s*\S+\s+(?P<job>\S+)\s+(?P<arguments>.*)")
HELP = """\
{program} JOB key=value ...

{jobs}

{program} JOB --help                           shows a job's configuration
eval "$({program} -sc install=bash)"           lets the tab key complete it in this shell
"""


class Job(NamedTuple):
    """A job.

    Args:
        module: a module in this package. Its `main` runs the job with a composed config.
        config: the default config; `--config-name` selects another one.
    """

    module: str
    config: str
    summary: str


JOBS = {
    "distill": Job("distill", "aayn_base_distill", "Train a student with a teacher."),
    "train": Job("train", "aayn_base", "Train a model on its own: a teacher, or a baseline."),
    "split": Job("split", "split", "Hold validation and test pairs out of parallel text."),
    "prepare": Job("prepare", "prepare", "Train tokenizers and write tarred data, before a training."),
    "label": Job("generate_pseudo_labels", "generate_pseudo_labels", "Translate text with a teacher, to learn from."),
    "mix": Job("mix_corpora", "mix_corpora", "Mix real and pseudo-labelled text in given proportions."),
    "cache": Job("cache_teacher", "cache_teacher", "Store a teacher's distributions over the training pairs."),
    "translate": Job("translate", "translate", "Translate a file or standard input, line by line."),
    "export": Job("export", "export", "Write a model for CTranslate2, Hugging Face or browsers, or as ONNX."),
    "evaluate": Job("evaluate", "evaluate", "Score, compare and time models on test sets."),
    "explain": Job("explain", "explain", "Tell why a student is worse than its teacher, and what to change first."),
    "size": Job("size_student", "size_student", "Estimate size, speed and cost of students, before any is trained."),
    "compare": Job("compare", "demo", "Label, train and evaluate in one command; see --config-name pipeline."),
    "demo": Job("compare", "demo", "The same on a generated corpus; nothing must exist first."),
    "report": Job("report", "report", "Gather trainings and an evaluation into a page."),
    "card": Job("card", "model_card", "Write a model's card."),
    "serve": Job("demo_server", "demo_server", "Serve a page to try models on."),
}


def start_job(name: str, command_line: Sequence[str] | None = None) -> None:
    """Runs a job with Hydra.

    Args:
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


def hydra_main(config_name: str, folder: Path = CONF) -> Callable[[Callable[..., Any]], Callable[[], None]]:
    """Decorates a job like `hydra.main`.

    The help begins with the comment at the top of the config, which says what the job does and shows a command.

    `~/` at the beginning of a value, or of one in a list or section, is the user's home, in a config file too. Shells
    expand it only after keys without a dot, and Hydra cannot parse it.

    Mistakes in the arguments are told all at once, with the keys that there are in place of an unknown one, and end
    with exit code 2. Hydra tells only the first one, and ends with 1, as after a crash of the job.
    """

    def decorated(task: Callable[..., Any]) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            sys.argv[1:] = with_home(sys.argv[1:])
            if {*COMPLETION} & set(sys.argv) and not any(map(COMPLETED.match, sys.argv)):
                print(f"{COMPLETION[0]} needs install=bash, or another shell, or uninstall=bash.", file=sys.stderr)
                sys.exit(2)
            mistakes: list[HydraException] = []
            try:
                if HELP_OPTIONS & set(sys.argv):
                    print(_description(folder, config_name), end="\n\n")
                else:
                    import_module("nemo_distill.cores").limit_threads()  # before anything imports torch
                while mistake := _run_or_find_mistake(task, config_name, folder, is_run=not mistakes):
                    mistakes.append(mistake)
                    right = [argument for argument in sys.argv if not is_meant(argument, mistake)]
                    if right == sys.argv:
                        break
                    sys.argv = right
            except BrokenPipeError:  # of --help, for instance into head
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python flushes it at exit
                sys.exit(1)
            except KeyboardInterrupt as interruption:  # before the work, which says itself whether it goes on
                raise SystemExit("\nInterrupted.") from interruption
            if mistakes:
                print(*(in_words(mistake) for mistake in mistakes), sep="\n\n", file=sys.stderr)
                sys.exit(2)

        return main

    return decorated


def _run_or_find_mistake(
    task: Callable[..., Any], config_name: str, folder: Path, is_run: bool
) -> HydraException | None:
    """Runs a job with Hydra, and returns the first mistake in the arguments, which Hydra does not tell then.

    Args:
        is_run: whether to run the job; else its configuration is only composed, and nothing is printed.
    """
    stderr = sys.stderr
    held_back = sys.stderr = io.StringIO()

    @functools.wraps(task)
    def composed(cfg: DictConfig) -> Any:
        sys.stderr = stderr
        stderr.write(held_back.getvalue())
        held_back.truncate(0)
        return task(config_with_home(cfg)) if is_run else None

    try:
        with nullcontext() if is_run else redirect_stdout(io.StringIO()):
            hydra.main(version_base=None, config_path=str(folder), config_name=config_name)(composed)()
    except (SystemExit, *MISTAKES) as end:
        # Hydra tells mistakes and exits, but raises those in a command line with --help.
        mistake = end.__context__ if isinstance(end, SystemExit) and end.code == 1 else end
        mistake = mistake_behind(mistake) or mistake
        if sys.stderr is held_back and isinstance(mistake, MISTAKES):
            held_back.truncate(0)
            return mistake
        if sys.stderr is held_back and (said := ARGPARSE.search(held_back.getvalue())):
            held_back.truncate(0)
            stderr.write(f"{said[0]}\n{PLAIN_KEYS}; --help shows all.\n")
        if is_run:
            raise
    finally:
        sys.stderr = stderr
        stderr.write(held_back.getvalue())
    return None


def _description(folder: Path, config_name: str) -> str:
    """Returns the comment at the top of the config that the command line selects, or of the default one."""
    named = CONFIG_NAME.search("\0".join(sys.argv))
    path = folder / f"{named['name'].removesuffix('.yaml') if named else config_name}.yaml"
    lines = (path if path.is_file() else folder / f"{config_name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "\n".join(line[2:] for line in comment)


# Hydra composes its own configuration too, a quarter of the time, and leaves it out in the end.
WITHOUT_HYDRAS = tuple(
    f"~hydra/{group}"
    for group in ("launcher", "sweeper", "help", "hydra_help", "env", "output", "hydra_logging", "job_logging")
)


def composed_job(name: str, overrides: Sequence[str]) -> DictConfig:
    """Returns the configuration of a job, as its command composes it of its default one.

    Args:
        overrides: Hydra's arguments.

    Raises:
        HydraException: if an override is wrong.
    """
    is_running = GlobalHydra.instance().is_initialized()  # in a job, Hydra knows the folder of its configuration
    own = () if any(override.lstrip("+~").startswith("hydra") for override in overrides) else WITHOUT_HYDRAS
    with nullcontext() if is_running else initialize_config_dir(str(CONF.resolve()), version_base=None):
        try:
            return compose(JOBS[name].config, [*overrides, *own])
        except UNTOLD as error:
            if mistake := mistake_behind(error):
                raise mistake from error
            raise


def main() -> None:
    """Runs the command line. An error in it ends the process with exit code 2."""
    if not sys.argv[1:]:
        print(_help(), file=sys.stderr)
        sys.exit(2)
    first, *others = sys.argv[1:]
    if first in HELP_OPTIONS:
        print(_help())
    elif first == "--version":
        print(f"{PROGRAM} {__version__}")
    elif first in COMPLETION:
        _complete(sys.argv[1:])
    elif first in JOBS:
        start_job(first, [PROGRAM, *others])
    else:
        closest = "".join(f"; did you mean '{job}'?" for job in difflib.get_close_matches(first.lower(), JOBS, n=1))
        print(f"There is no job '{first}'{closest or f'; {PROGRAM} --help lists all.'}", file=sys.stderr)
        sys.exit(2)


def _help() -> str:
    width = max(map(len, JOBS))
    jobs = "\n".join(f"  {name:{width}}  {job.summary}" for name, job in JOBS.items())
    return HELP.format(program=PROGRAM, jobs=jobs).rstrip()


def _complete(arguments: list[str]) -> None:
    """Answers a completion query of the shell, or prints the code that enables completion, as Hydra does.

    The shell passes the typed line in COMP_LINE. Hydra gets it without the name of the job.
    """
    job = next(iter(JOBS))  # to install completion, any job will do
    if any(argument.startswith("query=") for argument in arguments):
        typed = TYPED.fullmatch(os.environ.get("COMP_LINE", ""))
        if not typed:
            print(*JOBS)
        if not typed or typed["job"] not in JOBS:
            return
        job, os.environ["COMP_LINE"] = typed["job"], f"{PROGRAM} {typed['arguments']}"
    start_job(job, [PROGRAM, *arguments])
