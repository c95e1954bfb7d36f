"""Code in the documentation can be copied: its syntax is right, and the shell's commands name jobs and keys that exist."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from tests.conftest import REPOSITORY, SCRIPTS
from tests.docs.pages import PAGES, Block, blocks, text_of

CONF = SCRIPTS / "conf"
# The command's jobs: the scripts that do the same, and their default configurations.
JOBS = {
    "split": ("split.py", "split"),
    "prepare": ("prepare.py", "prepare"),
    "train": ("enc_dec_nmt.py", "aayn_base"),
    "distill": ("enc_dec_nmt_distill.py", "aayn_base_distill"),
    "label": ("generate_pseudo_labels.py", "generate_pseudo_labels"),
    "mix": ("mix_corpora.py", "mix_corpora"),
    "cache": ("cache_teacher.py", "cache_teacher"),
    "translate": ("translate.py", "translate"),
    "export": ("export.py", "export"),
    "evaluate": ("evaluate.py", "evaluate"),
    "explain": ("explain.py", "explain"),
    "compare": ("compare_students.py", "demo"),
    "demo": ("compare_students.py", "demo"),
    "size": ("size_student.py", "size_student"),
    "card": ("model_card.py", "model_card"),
    "report": ("report.py", "report"),
    "serve": ("demo_server.py", "demo_server"),
}
DEFAULTS = {**dict(JOBS.values()), "study.py": "study"}
LANGUAGES = {"bash", "python", "python-excerpt", "yaml", "diff"}
ELLIPSIS = "..."  # a placeholder, alone, for arguments that a page has shown before; no other value is one
LAUNCHERS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
}


@dataclass(frozen=True)
class Command:
    """A command of a job.

    Args:
        block: where it stands.
        script: what does the job.
        arguments: without the placeholder.
    """

    block: Block
    script: Path
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block.page.name}: {self.script.name} {' '.join(self.arguments)[:60]}"

    @property
    def config_name(self) -> str:
        """The one that is given, or the script's default."""
        if "--config-name" in self.arguments:
            return self.arguments[self.arguments.index("--config-name") + 1]
        return DEFAULTS[self.script.name]

    @property
    def overrides(self) -> list[Override]:
        """All arguments but Hydra's options, and but launchers that are plugins which are not installed."""
        options = {"-m", "--multirun", "--help", "--config-name", self.config_name}
        found = OverridesParser.create().parse_overrides([one for one in self.arguments if one not in options])
        return [one for one in found if not self._is_of_missing_launcher(found, one)]

    @staticmethod
    def _is_of_missing_launcher(overrides: list[Override], one: Override) -> bool:
        chosen = [other.value() for other in overrides if other.key_or_group == "hydra/launcher"]
        missing = any(not find_spec("hydra_plugins") or not find_spec(LAUNCHERS[name]) for name in chosen)
        return missing and one.key_or_group.startswith(("hydra/launcher", "hydra.launcher."))


def commands(found: list[Block]) -> list[Command]:
    """Returns the commands of jobs in the shell's blocks, without repetitions."""
    every = [
        command for block in found for words in shell_commands(block.code) for command in job_command(block, words)
    ]
    return list({(command.script, command.arguments): command for command in every}.values())


def shell_commands(code: str) -> Iterator[list[str]]:
    """Yields the words of each command, without comments and without what the shell reads and writes for it."""
    one_line_each = re.sub(r"(^| )#.*$", "", code, flags=re.MULTILINE).replace("\\\n", " ")
    lexer = shlex.shlex(one_line_each, posix=True, punctuation_chars="|<>&;\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words, is_file = [], False
    for word in lexer:
        if set(word) <= set("<>"):
            is_file = True
        elif set(word) <= set("|&;\n"):
            yield words
            words = []
        elif is_file:
            is_file = False
        else:
            words.append(word)
    yield words


def job_command(block: Block, words: list[str]) -> Iterator[Command]:
    """Yields the command if it is one of a job: `nemo-distill JOB ...` or `python SCRIPT.py ...`, here or in a folder."""
    while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] == "srun"):
        words = words[1:]
    arguments = tuple(word for word in words[2:] if word != ELLIPSIS)
    if words[:1] == ["nemo-distill"]:
        assert words[1] in JOBS, f"{block}: there is no job {words[1]}"
        yield Command(block, SCRIPTS / JOBS[words[1]][0], arguments)
    elif words[:1] == ["python"] and words[1].endswith(".py"):
        folders = (SCRIPTS, REPOSITORY)  # where the pages say that commands are typed
        script = next((folder / words[1] for folder in folders if (folder / words[1]).is_file()), None)
        assert script, f"{block}: there is no script {words[1]}"
        if SCRIPTS in script.parents:
            yield Command(block, script, arguments)


def single_values(overrides: list[Override]) -> list[list[str]]:
    """Returns the overrides of each training of a sweep."""
    lines = [
        [f"{one.input_line.partition('=')[0]}={value}" for value in one.sweep_string_iterator()]
        if one.is_sweep_override()
        else [one.input_line]
        for one in overrides
    ]
    return [list(chosen) for chosen in product(*lines)]


COMMANDS = commands(blocks("bash"))


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_composes_with_the_real_configuration(command):
    each, *others = single_values(command.overrides)
    with initialize_config_dir(str(CONF), version_base=None):
        compose(command.config_name, each)
        if others:  # the other end of a sweep; those between have values that were seen
            compose(command.config_name, others[-1])


def test_every_job_is_shown():
    assert set(DEFAULTS) == {command.script.name for command in COMMANDS}


def test_every_job_is_in_both_tables_of_jobs():
    for page in (REPOSITORY / "README.md", REPOSITORY / "docs" / "index.md"):
        assert {job for job in JOBS if f"`{job}`" in text_of(page) or f"`nemo-distill {job}`" in text_of(page)} == {
            *JOBS
        }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_names_jobs_that_exist(page):
    assert set(re.findall(r"`nemo-distill ([a-z]+)", text_of(page))) <= {*JOBS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_names_scripts_and_files_that_exist(page):
    named = set(re.findall(r"`(?:python )?((?:[\w-]+/)*[\w-]+\.(?:py|yaml))\b", text_of(page)))
    folders = (REPOSITORY, REPOSITORY / "nemo_distill", SCRIPTS, CONF, *(REPOSITORY / "nemo_distill").glob("*/"))
    ours = [name for name in sorted(named) if not name.startswith("nemo/")]  # others are NeMo's files
    assert [name for name in ours if not any((folder / name).exists() for folder in folders)] == []


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_parses(block):
    assert yaml.safe_load(block.code) is not None


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles(block):
    compile(block.code, str(block), "exec")


def test_every_block_names_a_language_that_is_checked():
    assert [str(block) for block in blocks("")] == []
    every = {language for page in PAGES for language in re.findall(r"^ *```([\w-]+)$", text_of(page), re.MULTILINE)}
    assert every <= LANGUAGES


def bash(code: str) -> Block:
    return Block(Path("page.md"), "bash", code)


def test_commands_are_found_behind_settings_of_the_shell_and_before_its_files():
    code = (
        "A_B=1 srun nemo-distill mix \\\n  output=x ... < in > out # more\ncat x | python translate.py model='a b'\n"
    )
    mix, translate = commands([bash(code)])
    assert (mix.script.name, mix.arguments) == ("mix_corpora.py", ("output=x",))
    assert (translate.script.name, translate.arguments) == ("translate.py", ("model=a b",))


@pytest.mark.parametrize("code", ["nemo-distill lable", "python lable.py"])
def test_a_job_that_does_not_exist_is_found(code):
    with pytest.raises(AssertionError, match="lable"):
        commands([bash(code)])


def test_a_key_that_does_not_exist_is_found():
    (command,) = commands([bash("nemo-distill mix outptu=x")])
    with initialize_config_dir(str(CONF), version_base=None), pytest.raises(Exception, match="outptu"):
        compose(command.config_name, *single_values(command.overrides))
