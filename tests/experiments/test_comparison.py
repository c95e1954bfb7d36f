"""The driver of the demo, with trainings that are one line of Python."""

import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.experiments import comparison
from nemo_distill.experiments.comparison import do_steps, evaluation_of, execute, take
from nemo_distill.experiments.comparison_plan import Run
from nemo_distill.experiments.comparison_section import read_comparison
from nemo_distill.storage.files import locked
from tests.experiments.conftest import check_comparison, finish, plan_runs, prepare_corpus

TRAIN = (
    "import pathlib, sys; f = pathlib.Path(sys.argv[1]) / 'checkpoints'; f.mkdir(parents=True); (f / 'a.nemo').touch()"
)


def test_a_teacher_that_is_there_is_not_trained(demo, tmp_path):
    demo.teacher = str(tmp_path / "big.nemo")
    with pytest.raises(ConfigurationError, match="teacher names '.*big.nemo', which does not exist"):
        check_comparison(demo)
    (tmp_path / "big.nemo").mkdir()
    with pytest.raises(ConfigurationError, match="teacher names '.*big.nemo', which is a folder; it must be a .nemo"):
        check_comparison(demo)
    (tmp_path / "big.nemo").rmdir()
    (tmp_path / "big.nemo").touch()
    check_comparison(demo)
    teacher, baseline, distilled, *_ = plan_runs(demo)
    assert execute(teacher) == 0.0 and teacher.model_path == tmp_path / "big.nemo"
    for run in (baseline, distilled):
        assert f"model.distillation.model_path={demo.teacher}" in run.arguments
    assert "model.distillation.distillation_loss_weight=0" in baseline.arguments


def test_text_to_be_labelled_that_is_not_there_is_told_before_anything_is_trained(demo):
    prepare_corpus(demo)
    demo.corpus.generate = None
    demo.labels = {
        "mono": ["source=${corpus.folder}/mono.de"],
        "second": ["source=${output_dir}/labels_mono/pseudo.src"],
    }
    check_comparison(demo)
    demo.labels.mono = ["source=news.de", "~filters.repetitions"]
    with pytest.raises(ConfigurationError, match="labels.mono: source names 'news.de', which does not exist"):
        check_comparison(demo)


def run_in(folder, *extra):
    return Run("teacher", 0, folder, ("-c", TRAIN, str(folder), *extra), folder / "model.nemo")


def test_a_finished_training_is_not_run_again(tmp_path):
    first = execute(run_in(tmp_path / "run"))
    assert (tmp_path / "run" / "model.nemo").is_file()
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert execute(run_in(tmp_path / "run")) == first
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize("written", [(), ("a.nemo", "b.nemo")])
def test_a_training_that_leaves_not_one_model_is_told(written, tmp_path):
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for name in written:
        (checkpoints / name).touch()
    run = replace(run_in(tmp_path / "run"), arguments=("-c", ""))
    with pytest.raises(DataError, match=f"run/checkpoints' has {len(written)} .nemo files"):
        execute(run)
    assert not run.is_done


def test_the_result_of_another_command_is_not_taken_for_this_ones(demo, tmp_path):
    check_comparison(demo)
    folder = tmp_path / "distilled_seed1"
    folder.mkdir()
    (folder / "finished.json").write_text(json.dumps({"arguments": ["another"], "seconds": 1.0}))
    with pytest.raises(ConfigurationError, match="distilled_seed1' holds other work: its command was another one"):
        check_comparison(demo)


def test_what_another_command_began_is_not_gone_on_with(demo, tmp_path):
    baseline = list(plan_runs(demo))[1]
    stopped = ("-c", "raise SystemExit(3)", *baseline.arguments)
    with pytest.raises(SystemExit):
        execute(replace(baseline, arguments=stopped))
    check_comparison(demo)  # there is no folder to go on with
    baseline.folder.mkdir()
    with pytest.raises(ConfigurationError, match="baseline_seed0' holds other work: its command was another one"):
        check_comparison(demo)


def test_a_file_that_changes_while_a_step_reads_it_is_recorded_as_it_was(tmp_path):
    text = tmp_path / "text"
    text.write_text("before")
    run = Run("a", 0, tmp_path / "a", ("-c", f"open({str(text)!r}, 'w').write('changed')"), None, named=(str(text),))
    execute(run)
    assert run.changes() == [f"'{text}' has changed since"]


def test_the_time_of_earlier_attempts_counts(tmp_path):
    run = run_in(tmp_path / "run")
    run.folder.mkdir()
    (run.folder / "run.json").write_text(json.dumps({"seconds": 1000.0}))
    assert execute(run) == 1000.0


def test_the_time_of_failed_attempts_counts_for_steps_that_keep_no_time_themselves(tmp_path):
    wait = "import pathlib, sys, time; f = pathlib.Path(sys.argv[1]); time.sleep(0.3); f.exists() or (f.touch(), sys.exit(3))"
    run = Run("labels", 0, tmp_path / "labels", ("-c", wait, str(tmp_path / "tried")), None)
    run.lock_path.parent.mkdir()
    with pytest.raises(SystemExit):
        execute(run)
    assert run.earlier_seconds > 0.3
    assert execute(run) > 0.6 and run.work.finished()["seconds"] > 0.6


def test_ctrl_c_lets_a_step_end_in_its_own_way(tmp_path):
    step = "import pathlib, sys, time; f = pathlib.Path(sys.argv[1]); f.touch(); time.sleep(1); f.write_text('ended')"
    driver = (
        "import signal, sys; from pathlib import Path; from nemo_distill.experiments.comparison import execute, Run; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored in a shell's background
        f"execute(Run('a', 0, Path(sys.argv[1]), ('-c', {step!r}, sys.argv[2]), None))"
    )
    started = tmp_path / "started"
    process = subprocess.Popen((sys.executable, "-c", driver, tmp_path / "run", started), stderr=subprocess.PIPE)
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert b"run did not finish" in process.communicate()[1]
    assert started.read_text() == "ended"


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_a_comparison_that_waits_for_another_process_says_so_once(at_a_time, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "POLL_SECONDS", 0.02)
    said, run, has_ended = [], comparison.Run("a", 0, tmp_path / "a", ("-c", ""), None), threading.Event()
    monkeypatch.setattr(comparison.console, "info", said.append)
    monkeypatch.setattr(comparison, "take", lambda run, at_a_time: False)
    told = set()
    threads = [
        threading.Thread(target=comparison._do_waiting, args=([run], at_a_time, has_ended, told))
        for _ in range(at_a_time)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    has_ended.set()
    for thread in threads:
        thread.join()
    assert said == ["Waiting for other processes, which are at a."]


@pytest.mark.parametrize("at_a_time", [1, 2])
def test_sigterm_ends_the_steps_too(at_a_time, tmp_path):
    step = (
        "import pathlib, signal, sys, time; f = pathlib.Path(sys.argv[1])\n"
        "def end(*_):\n    f.write_text('ended'); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, end); f.touch(); time.sleep(60)"
    )
    driver = (
        "import sys; from pathlib import Path; from types import SimpleNamespace; "
        "from nemo_distill.console import sigterm_as_exception; "
        "from nemo_distill.experiments import comparison as c; folder = Path(sys.argv[1]); "
        "c.common_steps = lambda _: 1; c.other_lengths = lambda _: {}; "
        f"runs = [c.Run(n, 0, folder / n, ('-c', {step!r}, str(folder / (n + '.txt'))), None) for n in 'ab']; "
        f"c.plan_runs = lambda _: iter(runs[:{at_a_time}])\n"
        f"with sigterm_as_exception(): c.do_steps(SimpleNamespace(at_a_time={at_a_time}))"
    )
    process = subprocess.Popen((sys.executable, "-c", driver, tmp_path), stderr=subprocess.PIPE)
    files = [tmp_path / f"{name}.txt" for name in "ab"[:at_a_time]]
    while not all(file.exists() for file in files):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert b"Terminated; the same command goes on from there." in process.communicate(timeout=30)[1]
    assert process.returncode == 1 and [file.read_text() for file in files] == ["ended"] * at_a_time


def test_a_step_that_another_process_did_otherwise_meanwhile_is_told(demo, tmp_path, monkeypatch):
    mine, other = (Run("a", 0, tmp_path / "a", ("-c", f"{number}"), None) for number in (1, 2))
    mine.folder.mkdir()
    assert execute(other) >= 0
    monkeypatch.setattr(comparison, "plan_runs", lambda config: iter([mine]))
    with pytest.raises(ConfigurationError, match="a' holds other work: its command was another one"):
        do_steps(read_comparison(demo))


def test_text_that_went_with_the_folder_of_another_step_is_made_again(tmp_path):
    text = tmp_path / "labels_train" / "nearest.src"
    command = f"import pathlib; p = pathlib.Path({str(text)!r}); p.parent.mkdir(exist_ok=True); p.touch()"
    run = Run("labels_nearest", 0, tmp_path / "labels_nearest", ("-c", command), None, made=(text,))
    execute(run)
    assert run.is_done
    text.unlink()
    assert not run.is_done
    execute(run)
    assert text.is_file() and run.is_done


def test_a_training_that_fails_is_not_recorded_as_finished(tmp_path):
    run = Run("teacher", 0, tmp_path, ("-c", "raise SystemExit(3)"), tmp_path / "model.nemo")
    with pytest.raises(SystemExit, match="did not finish; the same command goes on from there"):
        execute(run)
    assert run.work.finished() is None


def test_a_corpus_that_lacks_a_file_is_told(demo):
    demo.corpus.generate = None
    with pytest.raises(ConfigurationError, match="lacks .*train.de"):
        check_comparison(demo)


def test_several_test_sets_are_evaluated_each_under_its_name(demo):
    prepare_corpus(demo)
    folder = Path(demo.corpus.folder)
    for language in ("de", "en"):
        (folder / f"news.{language}").write_bytes((folder / f"test.{language}").read_bytes())
    demo.corpus.generate, demo.corpus.test = None, ["test", "news"]
    check_comparison(demo)
    sets = evaluation_of(read_comparison(demo)).sets
    assert [(one.name, Path(one.source).name) for one in sets] == [("test", "test.de"), ("news", "news.de")]
    (folder / "news.en").write_text("one line\n")
    with pytest.raises(ConfigurationError, match=r"corpus.test: news: .*news.de' has \d+ lines .*news.en' has 1"):
        check_comparison(demo)


def test_text_of_the_users_own_is_not_replaced_by_a_generated_corpus(demo):
    prepare_corpus(demo)
    (Path(demo.corpus.folder) / "mono.de").unlink()
    check_comparison(demo)  # half a corpus of ours
    for record in ("generated_with.json", "generated.json"):
        (Path(demo.corpus.folder) / record).unlink()
    with pytest.raises(ConfigurationError, match="holds other text; for that one, set corpus.generate=null"):
        check_comparison(demo)
    demo.corpus.generate = None
    check_comparison(demo)


def test_a_corpus_generated_with_other_settings_is_not_taken_for_this_one(demo):
    prepare_corpus(demo)
    check_comparison(demo)
    demo.corpus.generate.train = 60
    with pytest.raises(ConfigurationError, match="corpus.folder=.* train was 50 and is 60"):
        check_comparison(demo)


def test_the_record_holds_the_command(tmp_path):
    run = run_in(tmp_path / "run")
    execute(run)
    assert run.work.finished()["settings"] == {"arguments": list(run.arguments)}


def counting_run(folder, log, needs=()):
    command = f"open({str(log)!r}, 'a').write({folder.name!r} + chr(10)); __import__('time').sleep(0.2)"
    return Run(folder.name, 0, folder, ("-c", command), None, tuple(needs))


def test_comparisons_in_one_folder_share_the_steps(demo, tmp_path, monkeypatch):
    first = counting_run(tmp_path / "first", tmp_path / "log")
    runs = [first, *(counting_run(tmp_path / f"after{number}", tmp_path / "log", [first]) for number in range(4))]
    monkeypatch.setattr(comparison, "plan_runs", lambda config: iter(runs))
    config = read_comparison(demo)
    monkeypatch.setattr(comparison, "POLL_SECONDS", 0.05)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: do_steps(config), range(3)))
    done = (tmp_path / "log").read_text().split()
    assert done[0] == "first" and sorted(done) == sorted(run.group for run in runs)


def test_steps_side_by_side_print_into_files_and_a_failure_shows_the_end(demo, tmp_path, monkeypatch, capfd):
    threads = "import os; print('threads', os.environ.get('OMP_NUM_THREADS'))"
    fails = "print('too early' + chr(10) * 30 + 'why'); raise SystemExit(3)"
    teacher, good, bad, later = (
        Run(name, 0, tmp_path / name, ("-c", code), None)
        for name, code in (("teacher", threads), ("good", threads), ("bad", fails), ("later", threads))
    )
    good, bad = replace(good, needs=(teacher,)), replace(bad, needs=(teacher,))
    runs = [teacher, good, bad, replace(later, needs=(bad,))]
    monkeypatch.setattr(comparison, "plan_runs", lambda config: iter(runs))
    monkeypatch.setattr(comparison, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(comparison, "cpu_count", lambda: 6)
    monkeypatch.setattr(comparison, "ARE_THREADS_GIVEN", False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    demo.at_a_time = 2
    with pytest.raises(SystemExit, match="why\nbad did not finish; the same command goes on from there") as failure:
        do_steps(read_comparison(demo))
    assert "too early" not in str(failure.value)
    assert "threads" not in capfd.readouterr().out
    assert (tmp_path / "logs" / "teacher.log").read_text() == "threads None\n"  # it runs alone
    assert (tmp_path / "logs" / "good.log").read_text() == "threads 3\n"
    assert good.is_done and not later.is_done


def test_a_step_whose_driver_was_killed_is_not_started_beside_itself(tmp_path):
    run = counting_run(tmp_path / "run", tmp_path / "log")
    run.lock_path.parent.mkdir()
    with locked(run.lock_path) as lock:
        orphan = subprocess.Popen((sys.executable, "-c", "input()"), stdin=subprocess.PIPE, pass_fds=(lock,))
    assert not take(run) and not run.is_done
    orphan.communicate(b"\n")
    assert take(run) and run.is_done


def test_the_models_that_are_there_are_evaluated_by_their_groups_seeds_and_roles(demo):
    runs = list(plan_runs(demo))
    for run in runs[:4]:
        finish(run)
    job = evaluation_of(read_comparison(demo))
    assert [(one.name, one.group, one.seed, one.role) for one in job.systems] == [
        ("teacher", "teacher", None, None), ("baseline_seed0", "baseline", 0, "baseline"),
        ("distilled_seed0", "distilled", 0, "distilled"), ("baseline_seed1", "baseline", 1, "baseline"),
    ]  # fmt: skip
    assert job.significance.baselines == ["baseline_seed0", "baseline_seed1"]
    assert job.folder == Path(demo.output_dir) / "evaluation" and job.search.beam_size == demo.beam_size
    demo.beam_size = 4
    assert evaluation_of(read_comparison(demo)).search.power_form_problems("an export") == []
    (one,) = job.sets
    assert (one.name, one.source.name, one.reference.name, one.language) == ("test", "test.de", "test.en", "en")
    failures = job.settings.failures
    assert (failures.training_source, failures.training_target) == (
        [f"{demo.corpus.folder}/train.de", f"{demo.corpus.folder}/mono.de"], [f"{demo.corpus.folder}/train.en"],
    )  # fmt: skip
    demo.corpus.generate = None
    OmegaConf.update(demo, "corpus.monolingual", ["news.*.de", "books.de"], force_add=True)
    sources = evaluation_of(read_comparison(demo)).settings.failures.training_source
    assert sources == [f"{demo.corpus.folder}/train.de", "news.*.de", "books.de"]


def test_word_lists_go_with_the_text_that_the_models_are_trained_on(demo):
    demo.evaluation = {"failures": {"word_lists": [__file__]}}
    failures = evaluation_of(read_comparison(demo)).settings.failures
    assert failures.word_lists == [__file__] and failures.training_target == [f"{demo.corpus.folder}/train.en"]
    demo.evaluation = {"failures": {"training_source": [__file__]}}
    with pytest.raises(ConfigurationError, match="evaluation.failures.training_source=.* without training_target"):
        read_comparison(demo)


def test_differences_are_tested_against_the_systems_that_the_config_names(demo):
    demo.evaluation.significance.baselines = ["teacher", "distilled_seed1"]
    for run in plan_runs(demo):
        finish(run)
    assert evaluation_of(read_comparison(demo)).significance.baselines == ["teacher", "distilled_seed1"]
    demo.evaluation.significance.baselines = ["hot_seed0"]
    with pytest.raises(ConfigurationError, match="evaluation.significance.baselines names 'hot_seed0'"):
        check_comparison(demo)
