"""The command `nemo-distill`: help in a second, jobs by their names, and completion by tab."""

import os
import subprocess
import sys
from importlib import import_module

import pytest
from hydra.errors import HydraException

from nemo_distill.commands.jobs import CONF, JOBS, composed_job
from nemo_distill.config.override_mistakes import composition_problem
from tests.conftest import SCRIPTS
from tests.forked import run_script

SLOW = ("nemo", "torch", "lightning", "pandas", "matplotlib")


def nemo_distill(*arguments, cwd, program=("-m", "nemo_distill"), **environment):
    """Runs the command, and after its output prints which slow modules it has imported."""
    code = f"import atexit, sys; atexit.register(lambda: print('imported', *sorted({SLOW} & sys.modules.keys())))"
    (cwd / "sitecustomize.py").write_text(code.replace(str(SLOW), f"set({SLOW})"))
    path = os.pathsep.join([str(cwd), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *program, *arguments], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_each_job_has_a_config_and_a_module_that_does_it(name):
    assert (CONF / f"{JOBS[name].config}.yaml").is_file()
    assert callable(import_module(f"nemo_distill.commands.{JOBS[name].module}").main)


def test_help_lists_the_jobs_and_imports_nothing_slow(tmp_path):
    shown = nemo_distill("--help", cwd=tmp_path)
    assert shown.returncode == 0
    for name, job in JOBS.items():
        assert f"  {name} " in shown.stdout and job.summary in shown.stdout
    assert shown.stdout.splitlines()[-1] == "imported"


@pytest.mark.parametrize(
    ("job", "options", "config", "command"),
    [
        ("distill", ["--help"], "aayn_base_distill", "  nemo-distill distill model.distillation.model_path="),
        ("evaluate", ["-h", "device=cpu"], "evaluate", "  nemo-distill evaluate output_dir=evaluation"),
        ("compare", ["-h", "--config-name", "pipeline"], "pipeline", "  nemo-distill compare --config-name pipeline"),
        ("compare", ["--config-name=pipeline_small.yaml", "-h"], "pipeline_small", "  OMP_NUM_THREADS=1 nemo-distill"),
        ("demo", ["--config-dir=.", "--config-name=own", "-h"], "demo", "  nemo-distill demo"),
    ],
)
def test_a_jobs_help_begins_with_the_comment_of_its_config_and_imports_nothing_slow(
    job, options, config, command, tmp_path
):
    (tmp_path / "own.yaml").write_text("defaults: [demo]")
    shown = nemo_distill(job, *options, cwd=tmp_path)
    assert shown.returncode == 0
    first, *others = shown.stdout.splitlines()
    assert (CONF / f"{config}.yaml").read_text().startswith(f"# {first}\n")
    assert any(line.startswith(command) for line in others)
    assert "describe each key." in shown.stdout and shown.stdout.splitlines()[-1] == "imported"


@pytest.mark.parametrize(
    ("job", "has_groups"), [("distill", True), ("train", True), ("cache", True), ("label", False)]
)
def test_a_jobs_help_lists_groups_of_options_only_where_they_can_be_given(job, has_groups, tmp_path):
    shown = nemo_distill(job, "--help", cwd=tmp_path).stdout
    assert ("student: base_6x2" in shown) is has_groups


def test_a_users_home_is_known_after_keys_with_a_dot_and_in_lists_and_sections(tmp_path):
    text = ["model.train_ds.src_file_name=~/a.de", "model.train_ds.tgt_file_name=[~/a.en,~/b.en]", "~model.test_ds"]
    told = run_script(SCRIPTS / "enc_dec_nmt_distill.py", *text, cwd=tmp_path, HOME=str(tmp_path)).stderr
    assert all(f"'{tmp_path}/{name}'" in told for name in ("a.de", "a.en", "b.en")), told
    sets = "+test_sets.one={source: ~/t.de, reference: ~/t.en}"
    keys = ["+models.a=~/a.nemo", sets, "output_dir=out"]
    told = run_script(SCRIPTS / "evaluate.py", *keys, cwd=tmp_path, HOME=str(tmp_path)).stderr
    assert all(f"'{tmp_path}/{name}'" in told for name in ("a.nemo", "t.de", "t.en")), told


HOMES = """
from pathlib import Path
from omegaconf import OmegaConf
from nemo_distill.commands.jobs import hydra_main

@hydra_main("mine", Path(__file__).parent)
def main(cfg):
    print(OmegaConf.is_struct(cfg), OmegaConf.is_missing(cfg, "asked"), cfg.output_dir, cfg.folder, *cfg.texts)

main()
"""


def test_a_users_home_is_known_in_a_config_file_and_after_quotes(tmp_path):
    (tmp_path / "homes.py").write_text(HOMES)
    texts = "texts: ['source=~/a.de', '~model.test_ds', a~/b]\nasked: ???\n"
    (tmp_path / "mine.yaml").write_text("output_dir: ~/runs\nfolder: ${output_dir}/corpus\n" + texts)
    ended = run_script(tmp_path / "homes.py", cwd=tmp_path, HOME="/home/me")
    assert ended.stdout.split() == [
        "True", "True", "/home/me/runs", "/home/me/runs/corpus", "source=/home/me/a.de", "~model.test_ds", "a~/b",
    ], ended.stderr  # fmt: skip
    ended = run_script(tmp_path / "homes.py", "output_dir='~/mine'", cwd=tmp_path, HOME="/home/me")
    assert ended.stdout.split()[2:4] == ["/home/me/mine", "/home/me/mine/corpus"], ended.stderr


def test_help_that_is_not_read_to_its_end_leaves_no_stack_trace(tmp_path):
    command = f"{sys.executable} -m nemo_distill distill --help | head -1"
    shown = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert shown.stdout.startswith("Trains a student") and shown.stderr == ""


def test_a_scripts_help_imports_nothing_slow_either(tmp_path):
    shown = nemo_distill("--help", cwd=tmp_path, program=[str(SCRIPTS / "enc_dec_nmt_distill.py")])
    assert shown.returncode == 0 and "distillation: " in shown.stdout
    assert shown.stdout.splitlines()[-1] == "imported"


def test_an_unknown_job_is_told_with_the_closest_and_none_with_all(tmp_path):
    unknown = nemo_distill("distil", "seed=1", cwd=tmp_path)
    assert unknown.returncode == 2
    assert unknown.stderr == "There is no job 'distil'; did you mean 'distill'?\n"
    assert nemo_distill("jobs", cwd=tmp_path).stderr == "There is no job 'jobs'; nemo-distill --help lists all.\n"
    nothing = nemo_distill(cwd=tmp_path)
    assert nothing.returncode == 2 and "translate" in nothing.stderr


def test_hydras_options_work(tmp_path):
    shown = nemo_distill("compare", "--config-name=pipeline", "--cfg", "job", "teacher=big.nemo", cwd=tmp_path)
    assert shown.returncode == 0 and "teacher: big.nemo" in shown.stdout
    wrong = nemo_distill("distill", "distillation=word_levle", cwd=tmp_path)
    assert wrong.returncode == 2 and "Could not find 'distillation/word_levle'" in wrong.stderr
    wrong = nemo_distill("distill", "distillation=null", "student=3", "sed=1", cwd=tmp_path)
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
    assert all(told in wrong.stderr for told in ("distillation is one of", "student is one of", "mean 'seed'?"))


@pytest.mark.parametrize("option", [["--config-path=mine"], ["--config-path", "mine"], ["-cp", "mine"]])
def test_a_relative_config_path_begins_where_the_command_is_typed(option, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "small.yaml").write_text("size: 1\n")
    shown = nemo_distill("mix", *option, "--config-name=small", "--cfg=job", cwd=tmp_path)
    assert shown.stdout.startswith("size: 1\n"), shown.stderr


def test_a_relative_config_path_begins_where_a_script_lies(tmp_path):
    program = [str(SCRIPTS / "mix_corpora.py")]
    shown = nemo_distill(
        "--config-path=conf/student", "--config-name=slim_1x1", "--cfg=job", cwd=tmp_path, program=program
    )
    assert "hidden_size: 256" in shown.stdout, shown.stderr


@pytest.mark.parametrize(
    ("line", "some", "others"),
    [
        ("nemo-distill ", {"distill", "translate"}, {"model."}),
        ("nemo-distill dis", {"distill"}, {"model."}),
        ("nemo-distill distill ", {"model.", "distillation=", "seed="}, {"translate"}),
        ("nemo-distill distill model.enc", {"model.encoder.", "model.encoder_tokenizer."}, {"seed="}),
        ("nemo-distill distill seed=1 distillation=trip", {"distillation=triple"}, {"seed="}),
        ("nemo-distill evaluate sig", {"significance."}, {"model."}),
        ("nemo-distill nothing se", set(), {"seed=", "distill"}),
    ],
)
def test_tab_completes_jobs_and_then_a_jobs_config(line, some, others, tmp_path):
    shown = nemo_distill("-sc", "query=bash", cwd=tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert shown.returncode == 0, shown.stderr
    words = set(shown.stdout.rpartition("imported")[0].split())
    assert some <= words and not others & words, words


def test_a_shell_that_installs_completion_completes(tmp_path):
    """In bash itself, with the command as pip installs it."""
    program = tmp_path / "nemo-distill"
    program.write_text(f"#!{sys.executable}\nfrom nemo_distill.commands.jobs import main\nmain()\n")
    program.chmod(0o755)
    script = (
        'eval "$(nemo-distill -sc install=bash)"; complete -p nemo-distill; COMP_LINE="nemo-distill export quant"; '
        'COMP_POINT=${#COMP_LINE}; COMP_CWORD=2; hydra_bash_completion; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    shown = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    installed, completed = shown.stdout.splitlines()
    assert installed.endswith("-F hydra_bash_completion nemo-distill") and completed == "quantization="


SCRIPT = """
import sys
from pathlib import Path
from hydra.errors import InstantiationException
from nemo_distill.commands.jobs import hydra_main

@hydra_main("job", Path("conf").absolute())
def main(cfg):
    if cfg.crash == "exit":
        sys.exit(1)
    if cfg.crash == "interrupted":
        raise KeyboardInterrupt
    if cfg.crash == "hydra":
        raise InstantiationException("of a class that a job names")
    if cfg.crash:
        raise ValueError("in the job")
    print(f"crash={cfg.crash}")

main()
"""


@pytest.fixture
def run(tmp_path):
    """Runs a script with arguments, and returns its exit code and all that it printed."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "job.yaml").write_text(
        "crash: null\nlist: [1]\nhydra: {run: {dir: .}, output_subdir: null}\n"
    )
    (tmp_path / "job.py").write_text(SCRIPT)

    def run_script(*arguments):
        ended = subprocess.run([sys.executable, "job.py", *arguments], cwd=tmp_path, capture_output=True, text=True)
        return ended.returncode, ended.stdout + ended.stderr

    return run_script


@pytest.mark.parametrize(
    ("arguments", "code", "printed"),
    [
        (["crash=null"], 0, "crash=None"),
        (["crsh=1"], 2, "Could not override 'crsh'"),
        (["crsh=1"], 2, "Did you mean 'crash'?\nThe keys here are crash, list.\n"),
        (["crsh=1", "cash=2"], 2, "'crash'?\nThe keys here are crash, list.\n\nCould not override 'cash'. To append"),
        (["crash=[1", "crsh=2"], 2, "for details\n\nCould not override 'crsh'. To append"),
        (["~crsh", "--cfg=job"], 2, "Could not delete from config. 'crsh' does not exist.\n"),
        (["crash=[1"], 2, "crash=[1: no viable alternative"),
        (["crash=Größe (1).de"], 2, """quotes of its own: 'crash="Größe (1).de"'\n"""),
        (["crash=[a=b, c.d=1]"], 2, """quotes of their own: 'crash=["a=b","c.d=1"]'\n"""),
        (["+crash={a:", "b}"], 2, "The shell has split it at a space: put quotes"),
        (["--config-name=pipeline_smal"], 2, "Did you mean 'pipeline_small'?"),
        (["--config-name", "other", "crash=1"], 2, "Cannot find primary config 'other'"),
        (["--config-name=other"], 2, "Cannot find primary config 'other'"),
        (["--config-name=other", "--help"], 2, "Cannot find primary config 'other'"),
        (["crsh=1", "cash=2", "--help"], 2, "are crash, list.\n\nCould not override 'cash'."),
        (["list.a=1", "crsh=1"], 2, "override list.a=1\nA list is given whole, as in 'metrics=[BLEU,chrF]'"),
        (["~list.0"], 2, "override ~list.0\nA list is given whole"),
        (["+list.a=1"], 2, "override +list.a=1\nA list is given whole"),
        (["list={}"], 2, "override list={}\nA list is given whole"),
        (["-sc"], 2, "-sc needs install=bash"),
        (["--config-dir=nowhere"], 2, "nowhere' not found"),
        (["--nothing"], 2, "unrecognized arguments: --nothing\nA key is given without dashes, as in 'seed=1'; --help"),
        (["--crash", "1"], 2, "unrecognized arguments: --crash\nA key is given without dashes"),
        (["crash", "=", "1"], 2, "'seed=1', and without spaces around the equals sign.\n"),
        (["crash=true"], 1, "ValueError: in the job"),
        (["crash=hydra"], 1, "of a class that a job names"),
        (["crash=exit"], 1, ""),
    ],
)
def test_a_mistake_in_the_arguments_ends_with_2_and_a_crash_with_1(run, arguments, code, printed):
    ended, said = run(*arguments)
    assert ended == code and printed in said, said


@pytest.mark.parametrize(
    ("job", "override", "told"),
    [
        ("distill", "student=null", "override student=null. student is one of base_6x2, "),
        ("distill", "student=3", "student is one of base_6x2, "),
        ("distill", "student=[slim_3x3,b]", "Could not load 'student/b'. student is one of base_6x2, "),
        ("distill", "student=slim_3x4", "Did you mean 'slim_3x3'?"),
        ("distill", "student=b", "slim_3x3 tiny_6x2 wide_1x1 wide_3x4."),
        ("distill", "trainer.max_steps=3", "There is such a key, but this configuration does not have it; the plus adds it."),
        ("distill", "trainer.max_step=3", "Did you mean '+trainer.max_steps'? The keys of trainer are accelerator, "),
        ("distill", "trainer.max_epoch=3", "Did you mean 'max_epochs'?"),
        ("evaluate", "metrics.a.b=3", "A list is given whole"),
        ("evaluate", "search=[]", "a section key by key"),
        ("evaluate", "serch=1", "Did you mean 'search'? The keys here are chunk, "),
    ],
)  # fmt: skip
def test_advice_names_what_may_be_meant(job, override, told):
    with pytest.raises(HydraException) as mistake:
        composed_job(job, [override])
    said = composition_problem(mistake.value)
    assert told in said and said.count("base_6x2") <= 1, said


def test_ctrl_c_before_the_work_of_a_job_leaves_no_stack_trace(run):
    assert run("crash=interrupted") == (1, "\nInterrupted.\n")
