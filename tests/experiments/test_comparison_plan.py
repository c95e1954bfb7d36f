import shutil
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_distill.commands.jobs import CONF, composed_job
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.overrides import parsed
from nemo_distill.experiments import comparison_plan
from nemo_distill.experiments.comparison import evaluation_of
from nemo_distill.experiments.comparison_section import read_comparison
from tests.conftest import composed
from tests.experiments.conftest import check_comparison, finish, plan_runs, prepare_corpus


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


def test_a_student_comes_before_what_reads_it_whichever_stands_first(demo):
    demo.baselines, demo.seeds = {}, [0, 1]
    demo.labels = {"again": ["source=train.de", "model=${output_dir}/hybrid_seed1/model.nemo"]}
    demo.methods = {
        "noisy": ["model.distillation.mix.corpora.pseudo.source=${output_dir}/labels_again/pseudo.src"],
        "hybrid": [],
    }
    folders = [run.folder.name for run in plan_runs(demo)]
    assert folders == ["teacher", "hybrid_seed1", "labels_again", "noisy_seed0", "hybrid_seed0", "noisy_seed1"]


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
    with pytest.raises(ConfigurationError, match="another one, without search.beam_size=4; delete"):
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
