"""Sweeps over a training that is over at once, under Hydra's own launcher and under joblib."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.experiments.sweep import check_sweep
from nemo_distill.experiments.sweep_folders import folder_name
from nemo_distill.storage.records import read_json
from tests.conftest import SCRIPTS

TRAIN = """
import os
import signal
import sys
import time
from pathlib import Path
import hydra
from nemo_distill.experiments.sweep import run_in_sweep
from nemo_distill.experiments.training_record import new_record
from nemo_distill.storage.run_record import RUNNING, recorded_run

def out_of_time(number, frame):
    raise RuntimeError("its time is up.")

signal.signal(signal.SIGUSR2, out_of_time)  # as submitit does
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it

@hydra.main(version_base=None, config_path=".", config_name="training")
def main(cfg):
    if outcome := run_in_sweep(cfg, [__file__]):
        return outcome
    folder = Path(cfg.exp_manager.explicit_log_dir)
    with recorded_run(folder, new_record(cfg, RUNNING), dict):
        print(f"trained at {cfg.temperature} with resume_if_exists={cfg.exp_manager.resume_if_exists}")
        if cfg.temperature == 2 and not Path("repaired").exists():
            sys.exit(3)
        if cfg.temperature == 4:
            Path("pid").write_text(str(os.getpid()))
            time.sleep(300)

main()
"""
CONFIG = """
defaults: [console, _self_]
seed: 0
temperature: 1
text: null
exp_manager: {}
"""


@pytest.fixture
def sweep(tmp_path):
    """Starts the script with the arguments and, unless `wait` is false, waits for its end."""
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "training.yaml").write_text(CONFIG)

    def run(*arguments, wait=True):
        command = [sys.executable, "train.py", f"--config-dir={SCRIPTS / 'conf'}", "-m", *arguments]
        if not wait:
            return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run


def statuses(folder):
    return {path.parent.name: json.loads(path.read_text())["status"] for path in folder.rglob("run.json")}


def test_a_second_call_runs_what_is_missing_of_a_sweep(sweep, tmp_path):
    failed = sweep("temperature=2,1", "text=corpus/a.de")
    assert failed.returncode == 1, failed.stderr
    assert failed.stderr.splitlines()[-2:] == [
        "temperature=2 did not finish (exit code 3).", "The same command does again what is missing.",
    ]  # fmt: skip
    assert "Traceback" not in failed.stderr and "2 trainings: 1 failed, 1 finished." in failed.stdout
    assert statuses(tmp_path / "sweep") == {"temperature=1": "finished", "temperature=2": "failed"}
    (tmp_path / "repaired").touch()
    repaired = sweep("temperature=1,2", "text=corpus/a.de")
    assert repaired.returncode == 0, repaired.stderr
    assert "2 trainings: 1 finished before, 1 finished." in repaired.stdout
    assert not list((tmp_path / "sweep").glob(".outcomes_*"))
    assert [line for line in repaired.stdout.splitlines() if line.startswith("trained")] == [
        "trained at 2 with resume_if_exists=True"
    ]
    assert set(statuses(tmp_path / "sweep").values()) == {"finished"}


def test_a_training_with_other_settings_is_not_taken_for_finished(sweep, tmp_path):
    folder = tmp_path / "sweep" / "temperature=1"
    (folder / "checkpoints").mkdir(parents=True)
    record = {"status": "finished", "settings": {"config": {"seed": 7}}}
    (folder / "run.json").write_text(json.dumps(record))
    refused = sweep("temperature=1,3")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr and "temperature=1 was refused: " in refused.stderr
    assert "holds a training with other settings" in refused.stderr and "config.seed was 7 and is 0" in refused.stderr
    assert read_json(folder / "run.json") == record
    assert statuses(tmp_path / "sweep")["temperature=3"] == "finished"


def test_the_trainings_of_a_sweep_cannot_share_a_folder(sweep, tmp_path):
    refused = sweep("temperature=1,2", "+exp_manager.explicit_log_dir=runs/mine")
    assert refused.returncode == 2
    assert "exp_manager.explicit_log_dir=runs/mine" in refused.stderr and "hydra.sweep.dir" in refused.stderr
    assert not (tmp_path / "sweep").exists()


def refuse(cfg):
    """Refuses odd seeds and temperatures above 2, and repeats the text."""
    assert cfg.exp_manager.resume_if_exists  # as in the training itself
    wrong = {"seed: is odd.": cfg.seed % 2, "temperature: is too high.": cfg.temperature > 2, cfg.text: cfg.text}
    if problems := [problem for problem, is_wrong in wrong.items() if is_wrong]:
        raise ConfigurationError(problems)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["seed=0,1", "temperature=1,2"], ["seed: is odd. So with seed=1."]),
        (["seed=1", "temperature=1,3"], ["seed: is odd.", "temperature: is too high. So with temperature=3."]),
        (
            ["seed=0,2", "temperature=choice(1,3,4)"],
            ["temperature: is too high. So with seed=0,temperature=3; seed=0,temperature=4; seed=2,temperature=3 and 1 more."],
        ),
        (["hydra.sweeper.params.seed='1,2'"], ["seed: is odd. So with seed=1."]),
        (["temperature=1,2", "text='~/a'"], [str(Path.home() / "a")]),
        (["temperature=1,2", "text='${hydra:job.num}'"], []),
    ],
)  # fmt: skip
def test_all_trainings_of_a_sweep_are_checked_before_the_first_one_starts(tmp_path, capsys, values, told):
    (tmp_path / "training.yaml").write_text(CONFIG.replace("console, ", "") + "hydra: {sweeper: {params: {seed: 0}}}")
    with initialize_config_dir(str(tmp_path), version_base=None):
        config = GlobalHydra.instance().hydra.compose_config("training", values, run_mode=RunMode.MULTIRUN)
        with pytest.raises(SystemExit, match="2") if told else nullcontext():
            check_sweep(config, refuse)
    assert [line.removeprefix("  - ") for line in capsys.readouterr().err.splitlines()[1:]] == told


def test_the_outcomes_of_a_sweep_are_told_where_an_override_refers_to_what_hydra_sets_for_each_training(sweep):
    found = sweep("temperature=1,2", "text='${hydra:job.num}'")
    assert "HydraConfig" not in found.stderr and "2 trainings: 1 finished, 1 failed." in found.stdout


def wait_for_training(running, folder):
    """Returns the process id of a training of a sweep that does not end by itself."""
    while running.poll() is None and not ((folder / "pid").exists() and (folder / "pid").read_text()):
        time.sleep(0.1)
    return int((folder / "pid").read_text())


@pytest.mark.parametrize(
    ("send", "number", "code", "status"),
    [(os.kill, signal.SIGTERM, 128 + signal.SIGTERM, "running"), (os.killpg, signal.SIGINT, 1, "interrupted")],
)
def test_a_sweep_that_is_ended_ends_its_training_and_starts_no_other(sweep, tmp_path, send, number, code, status):
    running = sweep("temperature=4,5", wait=False)
    pid = wait_for_training(running, tmp_path)
    send(running.pid, number)  # Ctrl-C reaches the training as well
    _, errors = running.communicate(timeout=120)
    assert running.returncode == code
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert statuses(tmp_path / "sweep") == {"temperature=4": status}
    assert number == signal.SIGTERM or errors.endswith("\nInterrupted; the same command goes on from there.\n")


def test_a_launcher_that_ends_a_job_ends_its_training_and_no_other(sweep, tmp_path):
    running = sweep("temperature=4,5", wait=False)
    pid = wait_for_training(running, tmp_path)
    running.send_signal(signal.SIGUSR2)
    _, errors = running.communicate(timeout=120)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert running.returncode == 1 and "temperature=4 was interrupted: its time is up." in errors, errors
    assert "Traceback" not in errors
    assert statuses(tmp_path / "sweep")["temperature=5"] == "finished"


def test_joblib_runs_the_trainings_of_a_sweep_side_by_side(sweep, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="hydra-joblib-launcher is not installed")
    found = sweep("temperature=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=mine")
    assert found.returncode == 1 and "Traceback" not in found.stderr, found.stderr
    assert "temperature=2 did not finish (exit code 3)." in found.stderr
    assert "2 trainings: 1 finished, 1 failed." in found.stdout
    assert statuses(tmp_path / "mine") == {"temperature=1": "finished", "temperature=2": "failed"}


@pytest.mark.parametrize("override", ["exp_manager=null", "~exp_manager"])
def test_a_training_that_cannot_have_a_folder_is_refused_in_a_sweep(sweep, tmp_path, override):
    found = sweep("temperature=1,3", override, "hydra.sweep.dir=mine")
    assert found.returncode == 1 and "Traceback" not in found.stderr, found.stderr
    assert "temperature=1 was refused: exp_manager=null: must be a section of keys" in found.stderr
    assert "2 trainings: 2 refused." in found.stdout


def test_a_swept_key_names_a_folder_also_where_it_had_a_value_before(sweep, tmp_path):
    found = sweep("text=before", "text=a,b", "hydra.sweep.dir=of both")
    assert found.returncode == 0, found.stderr
    texts = {
        folder.name: read_json(folder / "run.json")["settings"]["config"]["text"]
        for folder in (tmp_path / "of both").iterdir()
        if folder.is_dir()
    }
    assert len(texts) == 2 and sorted(texts.values()) == ["a", "b"]


def test_values_that_are_paths_or_long_name_a_folder_each(sweep, tmp_path):
    values = ["a/../../../x", "x" * 260]
    for _ in range(2):
        found = sweep(f"text={','.join(values)}", "seed=7", "hydra.sweep.dir=of paths")
        assert found.returncode == 0, found.stderr
        folders = [path for path in (tmp_path / "of paths").iterdir() if path.is_dir()]
        assert {folder.name for folder in folders} == {folder_name(f"text={value}") for value in values}
        texts = [read_json(folder / "run.json")["settings"]["config"]["text"] for folder in folders]
        assert sorted(texts) == sorted(values)
    assert "2 trainings: 2 finished before." in found.stdout
