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
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nemo_distill import __version__
from nemo_distill.config.overrides import config_with_home, with_home

CONF = Path(__file__).parents[1] / "conf"
UNTOLD = (IndexError, TypeError, ValueError)  # are raised where an override is none of a list, or of a group's files
NO_OPTION = "Config group override must be"
ARGPARSE = re.compile(r"(?<=error: ).*")
PLAIN_KEYS = "A key is given without dashes, as in 'seed=1'"
MISTAKES = (ConfigCompositionException, OverrideParseException, SearchPathException)
CONFIG_PATH = ("--config-path", "-cp")
CONFIG_NAME = re.compile(r"(?:--config-name|-cn)[=\0](?P<name>[^\0]*)")
KEY = re.compile(r"[\w.+@/~]+")
PLAIN_LIST = re.compile(r"\[(?P<texts>[^][{}'\"]+)\]")
HELP_OPTIONS = {"-h", "--help"}
PLACE = re.compile(r"^In '\w+': |Config search path:.*", re.DOTALL)  # where Hydra looks for its files
WRONG_KEY = re.compile(r"'([^']+)'|override ([^\s'=]+)")
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
                    right = [argument for argument in sys.argv if not _is_meant(argument, mistake)]
                    if right == sys.argv:
                        break
                    sys.argv = right
            except BrokenPipeError:  # of --help, for instance into head
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python flushes it at exit
                sys.exit(1)
            except KeyboardInterrupt as interruption:  # before the work, which says itself whether it goes on
                raise SystemExit("\nInterrupted.") from interruption
            if mistakes:
                print(*(_told(mistake) for mistake in mistakes), sep="\n\n", file=sys.stderr)
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
        mistake = _of_override(mistake) or mistake
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


def _of_override(error: BaseException | None) -> ConfigCompositionException | None:
    """Returns the exception that Hydra has for a wrong override, for an error for which it shows a stack trace."""
    if error is None or not isinstance(error, UNTOLD):
        return None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(override := frame.f_locals.get("override"), Override):
            mistake = ConfigCompositionException(f"Error merging override {override.input_line}")
            mistake.__cause__ = error
            return mistake
    return None


def _is_meant(argument: str, mistake: HydraException) -> bool:
    """Says if a mistake is one of this argument."""
    if isinstance(mistake, OverrideParseException):
        return argument == mistake.override
    is_override = argument.startswith("~") or ("=" in argument and not argument.startswith("-"))
    if not is_override or not (named := WRONG_KEY.search(_without_place(mistake))):
        return False
    key, wrong = argument.lstrip("+~").partition("=")[0].partition("@")[0], named[1] or named[2]
    return key in {wrong, wrong.rpartition("/")[0]} - {""}  # an option of a group is named group/option


def _told(mistake: HydraException) -> str:
    """Returns what Hydra says of a mistake, in lines, with advice."""
    advice, cause = list(_advice(mistake)), mistake.__cause__
    if isinstance(mistake, OverrideParseException):
        said = str(mistake) if mistake.override in str(mistake) else f"{mistake.override}: {mistake}"
    else:
        said = " ".join(_without_place(mistake).split())
    is_explained = advice or cause is None or "To append" in said
    why = [] if is_explained else str(cause).splitlines()[:1]
    return "\n".join([said, *why, *advice])


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
            if mistake := _of_override(error):
                raise mistake from error
            raise


def composition_problem(error: HydraException) -> str:
    """Returns a sentence for what Hydra says of wrong overrides, with the known keys in place of an unknown one."""
    said = " ".join(_without_place(error).split()).removesuffix(".")
    return " ".join([f"{said}.", *_advice(error)])


def _without_place(error: HydraException) -> str:
    return PLACE.sub("", str(error)).replace("\n\nAvailable", ". Available")


def _advice(mistake: BaseException) -> Iterator[str]:
    """Yields how to quote a value that Hydra cannot parse, such as `Größe.de`, or which keys or files there are."""
    if isinstance(mistake, OverrideParseException):
        yield from _quoted(*mistake.override.partition("="))
        return
    said, cause = str(mistake), mistake.__cause__
    if isinstance(mistake, MissingConfigException):
        yield from _known_files(str(mistake.missing_cfg_file), are_told="Available options" in said)
    elif str(cause).startswith(NO_OPTION) and (named := WRONG_KEY.search(said)):
        yield from _known_files(f"{named[1] or named[2]}/")
    elif isinstance(cause, UNTOLD):
        yield "A list is given whole, as in 'metrics=[BLEU,chrF]', a section key by key, as in 'search.beam_size=4'."
    else:
        yield from _known_keys(cause)


def _known_files(path: str, are_told: bool = False) -> Iterator[str]:
    """Yields the file that may be meant by `name` or `group/name`, and all of a group, unless they are told before."""
    group, _, name = path.rpartition("/")
    names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    if closest := difflib.get_close_matches(name, names, n=1):
        yield f"Did you mean '{closest[0]}'?"
    if group and names and not are_told:
        yield f"{group} is one of {', '.join(names)}."


def _quoted(key: str, equals: str, value: str) -> Iterator[str]:
    if not equals:
        yield f"{PLAIN_KEYS}, and without spaces around the equals sign."
    if not equals or not KEY.fullmatch(key):
        return
    if value.startswith(("[", "{")) and value.endswith((",", ":")):
        yield "The shell has split it at a space: put quotes around the whole argument."
    elif listed := PLAIN_LIST.fullmatch(value):
        texts = ",".join(f'"{text.strip()}"' for text in listed["texts"].split(","))
        yield f"Texts with such characters need quotes of their own: '{key}=[{texts}]'"
    elif not value.startswith(tuple("[{'\"")):
        yield f"""A text with such characters needs quotes of its own: '{key}="{value}"'"""


def _known_keys(error: BaseException | None) -> Iterator[str]:
    """Yields the key that Hydra's user may have meant, and all of its section, if the error is of an unknown key."""
    from nemo_distill.config.known_keys import OF_SECTIONS  # with pydantic, which takes as long as Hydra itself

    if not isinstance(error, OmegaConfBaseException) or not isinstance(error.parent_node, DictConfig):
        return
    key, place = str(error.key), (error.full_key or "").rpartition(".")[0]
    keys = {str(key): str(key) for key in error.parent_node if key != "hydra"}
    more = {name: f"+{place}.{name}" for name in OF_SECTIONS.get(place, ()) if name not in keys}
    if not keys:
        return
    if key in more:
        yield "There is such a key, but this configuration does not have it; the plus adds it."
        return
    if closest := difflib.get_close_matches(key, [*keys, *more], n=1):
        yield f"Did you mean '{(keys | more)[closest[0]]}'?"
    yield f"The keys {f'of {place}' if place else 'here'} are {', '.join(sorted(keys))}."


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
