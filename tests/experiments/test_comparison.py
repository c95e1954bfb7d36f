"""The driver of the demo, with trainings that are one line of Python."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf, open_dict

from nemo_distill.commands.jobs import CONF, composed_job
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.experiments import comparison, comparison_plan
from nemo_distill.experiments.comparison import do_steps, evaluation_of, execute, take
from nemo_distill.experiments.comparison_plan import Run
from nemo_distill.experiments.comparison_section import parsed, read_comparison
from nemo_distill.storage.files import locked
from tests.conftest import composed

TRAIN = (
    "import pathlib, sys; f = pathlib.Path(sys.argv[1]) / 'checkpoints'; f.mkdir(parents=True); (f / 'a.nemo').touch()"
)


@pytest.fixture
def shipped(tmp_path):
    return composed("demo", f"output_dir={tmp_path}", "corpus.generate.train=50", "corpus.generate.monolingual=5")


@pytest.fixture
def demo(shipped):
    """The demo with one method that needs no labels."""
    shipped.labels, shipped.caches, shipped.methods = {}, {}, {"distilled": ["distillation=word_level_kl"]}
    return shipped


def plan_runs(cfg):
    return comparison_plan.plan_runs(read_comparison(cfg))


def check_comparison(cfg):
    comparison.check_comparison(read_comparison(cfg))


def prepare_corpus(cfg):
    comparison.prepare_corpus(read_comparison(cfg).corpus)


def test_the_demo_labels_and_caches_once_and_trains_each_student_with_two_seeds(shipped):
    students = ["baseline_seed{}", "word_level_seed{}", "hybrid_seed{}"]
    folders = [
        "teacher",
        students[0].format(0),
        "labels_mono",
        "cache_all",
        *(name.format(0) for name in students[1:]),
    ]
    assert [run.folder.name for run in plan_runs(shipped)] == [*folders, *(name.format(1) for name in students)]


def test_baselines_and_distilled_students_have_the_same_size_and_schedule(demo):
    baseline, distilled = list(plan_runs(demo))[1:3]
    student = {override for override in demo.students if not override.startswith("+trainer")}
    student |= {f"++trainer.max_steps={demo.steps}", "++trainer.val_check_interval=800"}
    assert student <= set(baseline.arguments) and student <= set(distilled.arguments)


def test_the_plan_holds_every_baseline_and_every_method(demo):
    demo = OmegaConf.merge(OmegaConf.create({"sizes": {"wide": ["model.encoder.hidden_size=96"]}}), demo)
    demo.baselines = {"baseline": [], "wide": ["${sizes.wide}"]}
    demo.methods = {"hot": ["model.distillation.temperature=5.0"], "wide_hot": ["${sizes.wide}", "${methods.hot}"]}
    demo.seeds = [0]
    runs = {run.group: run.arguments for run in plan_runs(demo)}
    assert list(runs) == ["teacher", "baseline", "wide", "hot", "wide_hot"]
    added = {"model.encoder.hidden_size=96", "model.distillation.temperature=5.0"}
    assert [added & set(arguments) for arguments in runs.values()] == [
        set(), set(), {"model.encoder.hidden_size=96"}, {"model.distillation.temperature=5.0"}, added,
    ]  # fmt: skip


def test_some_models_have_one_seed_alone_and_come_last(demo):
    demo = OmegaConf.merge(OmegaConf.create({"one_seed": ["cold", "wide"]}), demo)
    demo.baselines, demo.methods = {"slim": [], "wide": []}, {"hot": [], "cold": []}
    folders = [run.folder.name for run in plan_runs(demo)]
    assert folders == ["teacher", "slim_seed0", "hot_seed0", "slim_seed1", "hot_seed1", "wide_seed0", "cold_seed0"]


def test_a_model_of_one_seed_comes_before_what_reads_it(demo):
    demo = OmegaConf.merge(OmegaConf.create({"one_seed": ["second", "cold"]}), demo)
    demo.baselines = {"second": [], "cold": []}
    demo.labels = {
        "first": ["source=train.de"],
        "other": ["source=train.de", "model=${output_dir}/second_seed0/model.nemo"],
        "both": ["source=train.de", "more_labels=[${output_dir}/labels_first,${output_dir}/labels_other]"],
    }
    demo.methods = {"mixed": ["model.distillation.mix.corpora.pseudo.source=${output_dir}/labels_both/pseudo.src"]}
    runs = list(plan_runs(demo))
    assert [run.folder.name for run in runs] == [
        "teacher", "labels_first", "second_seed0", "labels_other", "labels_both", "mixed_seed0", "mixed_seed1",
        "cold_seed0",
    ]  # fmt: skip
    (both,) = (run for run in runs if run.folder.name == "labels_both")
    assert [run.folder.name for run in both.needs] == ["teacher", "labels_first", "labels_other"]


def test_labels_come_once_and_before_the_first_method_that_reads_them(demo):
    demo.labels = {
        "train": ["source=train.de"],
        "near": ["source=train.de", "output_dir=${output_dir}/labels_train", "name=near", "selection=interpolation"],
        "second": ["source=mono.de", "model=${output_dir}/hybrid_seed0/model.nemo"],
        "unread": ["source=other.de"],
    }
    read = "model.distillation.mix.corpora.pseudo.source=${output_dir}"
    demo.methods = {
        "plain": [],
        "near": [f"{read}/labels_train/near.src"],
        "hybrid": [f"{read}/labels_train/pseudo.src"],
        "second": [f"{read}/labels_second/pseudo.src"],
    }
    runs = list(plan_runs(demo))
    assert [run.folder.name for run in runs if not run.folder.name.endswith("seed1")] == [
        "teacher", "baseline_seed0", "plain_seed0", "labels_train", "labels_near", "near_seed0", "hybrid_seed0",
        "labels_second", "second_seed0",
    ]  # fmt: skip
    assert sum(run.model_path is None for run in runs) == 3
    by_name = {run.folder.name: run.arguments for run in runs}
    teacher = f"model={demo.output_dir}/teacher/model.nemo"
    assert [part for part in by_name["labels_train"] if part.startswith("model=")] == [teacher]
    assert by_name["labels_second"][-1] == f"model={demo.output_dir}/hybrid_seed0/model.nemo"


@pytest.fixture
def back(demo):
    """The demo with back-translations in a baseline and a method."""
    demo.reverse, demo.labels = (
        ["${teacher}"],
        {
            "back": ["source=${corpus.folder}/mono.en", "model=${output_dir}/reverse/model.nemo"],
            "unread": ["source=other.de"],
        },
    )
    files = "source: ${output_dir}/labels_back/pseudo.tgt, target: ${output_dir}/labels_back/pseudo.src"
    back = f'+model.distillation.mix.corpora.back={{{files}, share: 1, tag: "<BT>"}}'
    demo.methods = {"plain": [], "back": [back, "+model.distillation.mix.corpora.real.share=1"]}
    demo.seeds = [0]
    return demo


def test_a_reverse_model_is_trained_if_labels_name_it_and_its_translations_are_mixed(back):
    runs = {run.folder.name: run for run in plan_runs(back)}
    assert list(runs) == ["teacher", "baseline_seed0", "plain_seed0", "reverse", "labels_back", "back_seed0"]
    assert [need.folder.name for need in runs["labels_back"].needs] == ["teacher", "reverse"]
    assert [need.folder.name for need in runs["back_seed0"].needs] == ["teacher", "labels_back"]
    model = f"model={back.output_dir}/reverse/model.nemo"
    assert runs["reverse"].model_path == Path(model.removeprefix("model=")) and model in runs["labels_back"].arguments
    mix = next(text for text in runs["back_seed0"].arguments if "corpora.back" in text)
    assert comparison_plan.parsed(mix)[1] == {
        "source": f"{back.output_dir}/labels_back/pseudo.tgt", "target": f"{back.output_dir}/labels_back/pseudo.src",
        "share": 1, "tag": "<BT>",
    }  # fmt: skip
    back.methods = {"plain": []}
    assert "reverse" not in [run.folder.name for run in plan_runs(back)]
    back.baselines = {"back": ["+model.train_ds.src_file_name=[a,${output_dir}/labels_back/pseudo.tgt]"]}
    assert [run.folder.name for run in plan_runs(back)][1:4] == ["reverse", "labels_back", "back_seed0"]


def test_a_reverse_model_reads_the_text_and_languages_in_the_other_direction(back):
    prepare_corpus(back)
    back.overrides += ["model.src_language=de", "model.tgt_language=en"]
    runs = {run.group: run for run in plan_runs(back)}
    tokenizer = f"{back.output_dir}/tokenizer/shared_tokenizer.{back.vocab_size}.BPE.model"
    folder = f"{back.corpus.folder}"
    model = composed("aayn_base", *runs["reverse"].overrides).model
    assert (model.src_language, model.tgt_language) == ("en", "de")
    assert (model.train_ds.src_file_name, model.train_ds.tgt_file_name) == (f"{folder}/train.en", f"{folder}/train.de")
    assert model.validation_ds.src_file_name == f"{folder}/val.en"
    assert model.encoder_tokenizer.tokenizer_model == tokenizer and model.encoder.hidden_size == 128
    back.teacher, back.reverse = "teacher.nemo", []
    arguments = {run.group: run.arguments for run in plan_runs(back)}["reverse"]
    assert f"model.preproc_out_dir={back.output_dir}/reverse_tokenizer" in arguments


def test_a_reverse_model_is_neither_evaluated_nor_free_work(back):
    for run in plan_runs(back):
        finish(run) if run.model_path else run.work.finish({"seconds": 1.0})
    systems = {system.name: system for system in evaluation_of(read_comparison(back)).systems}
    assert list(systems) == ["teacher", "baseline_seed0", "plain_seed0", "back_seed0"]
    assert (systems["plain_seed0"].preparation_seconds, systems["back_seed0"].preparation_seconds) == (0, 2)


def test_what_a_reverse_model_lacks_is_told(back, tmp_path):
    back.methods, back.vocab_size, back.reverse = {"reverse": []}, None, []
    back.teacher = str(tmp_path / "teacher.nemo")
    Path(back.teacher).touch()
    back.labels.back[1] = "model=nowhere.nemo"
    with pytest.raises(ConfigurationError) as told:
        check_comparison(back)
    name, size = told.value.problems
    assert name == "methods.reverse: another model of the comparison has this name; take another."
    assert size.startswith("vocab_size has no value; give it, for the reverse model")
    back.methods, back.vocab_size = {}, 100
    prepare_corpus(back)
    back.corpus.generate = None
    with pytest.raises(ConfigurationError) as told:
        check_comparison(back)
    assert "labels.back: model names 'nowhere.nemo', which does not exist." in told.value.problems


def test_a_cache_comes_after_the_labels_that_it_is_of(demo):
    text = "model.distillation.mix.corpora.pseudo.source=${output_dir}/labels_train/pseudo.src"
    demo.labels = {"train": ["source=train.de"]}
    demo.caches = {"hybrid_long": [text, "cache.k=8"], "hybrid": [text, "cache.k=4"]}
    demo.methods = {
        "hybrid": [text, "model.distillation.teacher_cache=${output_dir}/cache_hybrid"],
        "long": [text, "model.distillation.teacher_cache=${output_dir}/cache_hybrid_long"],
    }
    demo.seeds, demo.baselines = [0], {}
    assert [run.folder.name for run in plan_runs(demo)] == [
        "teacher", "labels_train", "cache_hybrid", "hybrid_seed0", "cache_hybrid_long", "long_seed0",
    ]  # fmt: skip


def test_a_teacher_that_is_there_is_not_trained(demo, tmp_path):
    demo.teacher = str(tmp_path / "big.nemo")
    with pytest.raises(ConfigurationError, match="teacher names '.*big.nemo', which does not exist"):
        check_comparison(demo)
    (tmp_path / "big.nemo").touch()
    check_comparison(demo)
    teacher, baseline, distilled, *_ = plan_runs(demo)
    assert execute(teacher) == 0.0 and teacher.model_path == tmp_path / "big.nemo"
    for run in (baseline, distilled):
        assert f"model.distillation.model_path={demo.teacher}" in run.arguments
    assert "model.distillation.distillation_loss_weight=0" in baseline.arguments


@pytest.mark.parametrize(
    ("given", "everywhere", "smoothing"),
    [(True, [], 0.1), (False, [], 0.1), (True, ["model.label_smoothing=0.0"], 0.0)],
)
def test_a_baseline_smooths_labels_as_a_training_alone_does_wherever_its_teacher_comes_from(
    tmp_path, given, everywhere, smoothing
):
    (tmp_path / "big.nemo").touch()
    places = [f"output_dir={tmp_path}", f"corpus.folder={tmp_path}", f"corpus.monolingual={tmp_path}/mono.de"]
    cfg = composed("pipeline", *places, f"teacher={tmp_path}/big.nemo")
    cfg.overrides = [*cfg.overrides, *everywhere]
    if not given:
        cfg = OmegaConf.merge(OmegaConf.create({"vocab_size": 1000}), cfg)
        cfg.teacher, cfg.students, cfg.steps = [], [], 5
    runs = {run.group: run for run in plan_runs(cfg)}
    models = {name: composed_job(runs[name].job, runs[name].overrides).model for name in ("baseline", "hybrid")}
    assert {name: model.label_smoothing for name, model in models.items()} == {"baseline": smoothing, "hybrid": 0.0}


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


@pytest.fixture
def own_text(demo, tmp_path):
    """The demo with a teacher and a corpus that are there, all of whose steps have finished."""
    prepare_corpus(demo)
    demo.corpus.generate, demo.teacher = None, str(tmp_path / "big.nemo")
    Path(demo.teacher).write_bytes(b"weights")
    for run in list(plan_runs(demo))[1:]:
        finish(run)
    check_comparison(demo)
    return demo


def test_folders_may_have_any_letters_also_where_a_file_names_them_without_quotes(tmp_path):
    folder = tmp_path / "Größe (1)"
    sizes = ("corpus.generate.train=50", "corpus.generate.monolingual=5")
    plain = {run.folder.name: run for run in plan_runs(composed("demo", f"output_dir={tmp_path}", *sizes))}
    odd = {run.folder.name: run for run in plan_runs(composed("demo", f"output_dir='{folder}'", *sizes))}
    assert {name: [need.folder.name for need in run.needs] for name, run in plain.items()} == {
        name: [need.folder.name for need in run.needs] for name, run in odd.items()
    }
    assert dict(map(parsed, odd["labels_mono"].overrides))["source"] == str(folder / "corpus" / "mono.de")


@pytest.mark.parametrize("name", ["teacher", "corpus"])
def test_students_of_another_version_of_a_file_are_not_used(own_text, name):
    path = Path(own_text.teacher) if name == "teacher" else Path(own_text.corpus.folder) / "train.de"
    path.write_bytes(path.read_bytes() + b"more\n")
    with pytest.raises(ConfigurationError) as told:
        check_comparison(own_text)
    assert len(told.value.problems) == 4
    assert all(f"'{path}' has changed since; delete it" in problem for problem in told.value.problems)


def test_students_of_labels_that_were_made_anew_are_not_used(shipped):
    prepare_corpus(shipped)
    for run in plan_runs(shipped):
        finish(run)
    check_comparison(shipped)
    labels = next(run for run in plan_runs(shipped) if run.folder.name == "labels_mono")
    shutil.rmtree(labels.folder)
    finish(labels)
    check_comparison(shipped)  # the same labels
    shipped.labels.mono = [*shipped.labels.mono, "search.beam_size=4"]
    with pytest.raises(ConfigurationError, match="labels_mono' holds other work: its command was another one"):
        check_comparison(shipped)
    shutil.rmtree(labels.folder)
    finish(next(run for run in plan_runs(shipped) if run.folder.name == "labels_mono"))
    with pytest.raises(ConfigurationError) as told:
        check_comparison(shipped)
    assert [problem.partition("' holds")[0] for problem in told.value.problems] == [
        f"'{shipped.output_dir}/{name}" for name in ("cache_all", "hybrid_seed0", "hybrid_seed1")
    ]
    assert all(f"'{labels.folder}' has changed since" in problem for problem in told.value.problems)


def test_a_corpus_that_is_generated_later_is_read_when_the_step_begins(demo):
    teacher = next(plan_runs(demo))
    assert teacher.work.inputs == {}
    prepare_corpus(demo)
    names = {Path(path).name for path in teacher.work.inputs}
    assert names == {"train.de", "train.en", "val.de", "val.en"}


def test_a_file_that_changes_while_a_step_reads_it_is_recorded_as_it_was(tmp_path):
    text = tmp_path / "text"
    text.write_text("before")
    run = Run("a", 0, tmp_path / "a", ("-c", f"open({str(text)!r}, 'w').write('changed')"), None, named=(str(text),))
    execute(run)
    assert run.changes() == [f"'{text}' has changed since"]


def test_what_a_step_makes_is_no_input_of_another(shipped):
    made = [Path(run.model_path or run.folder) for run in plan_runs(shipped)]
    named = {Path(text) for run in plan_runs(shipped) for text in run.named}
    assert not named & {*made, *(path / f"pseudo.{side}" for path in made for side in ("src", "tgt"))}
    assert not any(path.is_relative_to(Path(shipped.output_dir) / "tokenizer") for path in named)


def test_what_is_recorded_of_a_step_tells_of_no_place_of_this_machine(demo):
    """So that an installation that was moved, or another machine that sees the folder, goes on."""
    demo.output_dir = "runs"
    for run in plan_runs(demo):
        assert run.arguments[:3] == ("-P", "-m", "nemo_distill")
        assert not [argument for argument in run.arguments if sys.prefix in argument or str(CONF.parent) in argument]


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


def test_the_name_of_an_export_is_refused_before_anything_is_trained(demo):
    demo.methods = {"baseline_int8": ["distillation=word_level_kl"]}
    with pytest.raises(
        ConfigurationError, match="methods.baseline_int8 has the name that the export of baseline gets"
    ):
        check_comparison(demo)
    demo.evaluation = {"export": None}
    check_comparison(demo)


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


@pytest.mark.parametrize(
    ("tests", "problem"),
    [
        ([], r"corpus.test=\[\]: name at least one"),
        (["test", "test"], "corpus.test names 'test' twice"),
        (["test", "news"], "the generated corpus has one test set"),
    ],
)
def test_test_sets_that_cannot_be_are_refused(demo, tests, problem):
    demo.corpus.test = tests
    with pytest.raises(ConfigurationError, match=problem):
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
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
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


def test_each_step_needs_what_it_names(demo):
    demo.labels = {"second": ["source=mono.de", "model=${output_dir}/hybrid_seed0/model.nemo"]}
    demo.methods = {
        "hybrid": [],
        "second": ["model.distillation.mix.corpora.pseudo.source=${output_dir}/labels_second/pseudo.src"],
    }
    needs = {run.folder.name: [other.folder.name for other in run.needs] for run in plan_runs(demo)}
    assert needs["teacher"] == []
    assert needs["baseline_seed0"] == needs["hybrid_seed0"] == ["teacher"]
    assert needs["labels_second"] == ["teacher", "hybrid_seed0"]
    assert needs["second_seed0"] == ["teacher", "labels_second"]


@pytest.mark.parametrize(
    ("override", "needed"),
    [
        ("a.source={output}/labels_train/pseudo.src", True),
        ("a.target={output}/labels_train/pseudo.tgt", True),
        ("a.source='{output}//labels_train/./pseudo.src'", True),
        ("a.source=[other.src,{output}/labels_train/pseudo.src]", True),
        ("+a={{source: {output}/labels_train/pseudo.src, share: 1}}", True),
        ("a.source={output}/labels_train/pseudo.src.gz", False),
        ("a.folders=[{output}/labels_train]", True),
        ("a.source={output}/labels", False),
        ("a.source=/elsewhere{output}/labels_train/pseudo.src", False),
        ("a.title='text of {output}/labels_train/pseudo.src'", False),
    ],
)
def test_a_step_is_needed_where_a_whole_value_is_the_path_of_what_it_makes(demo, override, needed):
    demo.labels = {"train": ["source=train.de"]}
    demo.methods = {"hybrid": [override.format(output=demo.output_dir)]}
    assert any(run.folder.name == "labels_train" for run in plan_runs(demo)) is needed


def test_overrides_that_hydra_cannot_read_are_told_all_at_once(demo):
    demo.methods = {"hot": ["a=[1"], "cold": ["b=1", "model.c"]}
    with pytest.raises(ConfigurationError) as told:
        check_comparison(demo)
    assert len(told.value.problems) == 2
    assert "methods.hot: 'a=[1'" in told.value.problems[0] and "methods.cold: 'model.c'" in told.value.problems[1]


def finish(run):
    """Leaves what a step leaves that has finished."""
    run.folder.mkdir(parents=True)
    if run.model_path:
        run.model_path.write_bytes(b"weights")
    run.work.finish({"seconds": 1.0})


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
        [f"{demo.corpus.folder}/train.de"], [f"{demo.corpus.folder}/train.en"],
    )  # fmt: skip


def test_a_name_with_one_seed_that_is_no_model_is_told(demo):
    with open_dict(demo):
        demo.one_seed = ["hybird"]
    with pytest.raises(ConfigurationError, match="one_seed names 'hybird'; the baselines and methods are baseline, "):
        read_comparison(demo)


def test_paths_that_hydra_would_read_as_something_else_are_quoted(demo, tmp_path):
    with open_dict(demo):
        demo.output_dir, demo.teacher = "läufe (1)", "'Müller #2'.nemo"
    (run, *_) = [run for run in plan_runs(demo) if run.group == "distilled"]
    values = dict(map(parsed, run.overrides))
    assert values["model.distillation.model_path"] == "'Müller #2'.nemo"
    assert values["exp_manager.explicit_log_dir"] == f"läufe (1)/{run.folder.name}"


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


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("methods", {"baseline": []}, "methods.baseline: another model"),
        ("baselines", {"teacher": []}, "baselines.teacher: another model"),
        ("methods", {"hot": "temperature=5"}, "methods.hot=temperature=5: must be a list of overrides"),
        ("seeds", 3, "seeds=3: must be a list of different whole numbers"),
        ("seeds", [0, 0], "seeds=[0, 0]: must be a list of different whole numbers"),
        ("corpus.target", None, "corpus.target=null"),
        ("corpus.folders", "a", "corpus has the unknown key 'folders'"),
        ("evaluation.metrics", ["BLUE"], "evaluation.metrics[0]=BLUE"),
        ("evaluation.device", "tpu", "evaluation.device=tpu"),
        ("methods.hot", [5], "methods.hot has 5"),
        ("methods.a/b", [], "methods.a/b: a name"),
        ("vocab_size", None, "vocab_size has no value"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_key(demo, key, value, told):
    OmegaConf.update(demo, key, value, force_add=True)
    with pytest.raises(ConfigurationError) as raised:
        read_comparison(demo)
    assert any(problem.startswith(told) for problem in raised.value.problems), raised.value.problems
