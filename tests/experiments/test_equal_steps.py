"""The length of the trainings of a comparison."""

import pytest

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.overrides import parsed
from nemo_distill.experiments.comparison import check_comparison, preparation_seconds
from nemo_distill.experiments.comparison_plan import plan_runs
from nemo_distill.experiments.comparison_section import read_comparison
from nemo_distill.experiments.equal_steps import (
    EPOCHS,
    EVERY_EPOCHS,
    INTERVAL,
    STEPS,
    common_steps,
    length_problems,
    other_lengths,
)
from tests.conftest import composed

BYTES, TOKENS = 40_000, 500  # of both sides; of a batch
BATCHES = BYTES / 4 / TOKENS  # estimated, in an epoch
MIXED = "+model.distillation.mix.corpora.pseudo={source: pseudo.src, target: pseudo.tgt, share: 9}"


@pytest.fixture(scope="module")
def pipeline():
    return composed("pipeline")


@pytest.fixture
def comparison(pipeline, tmp_path):
    """Reads a comparison with a teacher that is there."""
    for name, lines in (("train", 400), ("val", 1), ("test", 1)):
        for side in ("de", "en"):
            (tmp_path / f"{name}.{side}").write_text(("x" * 49 + "\n") * lines)
    (tmp_path / "teacher.nemo").touch()

    def read(**values):
        given = {
            "output_dir": f"{tmp_path}/runs",
            "teacher": f"{tmp_path}/teacher.nemo",
            "overrides": [f"model.train_ds.tokens_in_batch={TOKENS}"],
            "students": [],
            "baselines": {"alone": []},
            "methods": {"mixed": [MIXED]},
            "labels": {},
            "mono": None,
            "second": None,
        }
        cfg = pipeline.copy()
        cfg.corpus = {"folder": str(tmp_path), "source": "de", "target": "en"}
        for key, value in {**given, **values}.items():
            cfg[key] = value
        return read_comparison(cfg)

    return read


def arguments(config):
    """Returns the overrides of each training by group."""
    return {run.group: run.overrides for run in plan_runs(config) if run.model_path and run.arguments}


def lengths(config):
    given = {group: dict(map(parsed, overrides)) for group, overrides in arguments(config).items()}
    return {
        group: tuple(values[key] for key in (STEPS, EPOCHS, INTERVAL, EVERY_EPOCHS)) for group, values in given.items()
    }


@pytest.mark.parametrize(
    ("steps", "students", "expected", "interval"),
    [
        (300, [], 300, 30),
        (3, [], 3, 1),
        (90_000, [], 90_000, 2000),
        (300, ["+trainer.val_check_interval=60"], 300, 60),
        (30, ["+trainer.val_check_interval=60"], 30, 30),
        (300, ["+trainer.accumulate_grad_batches=2"], 300, 60),
        (None, ["trainer.max_epochs=8"], 8 * BATCHES, BATCHES),
        (None, ["trainer.max_epochs=8", "trainer.check_val_every_n_epoch=4"], 8 * BATCHES, 4 * BATCHES),
        (None, ["trainer.max_epochs=8", "+trainer.val_check_interval=0.5"], 8 * BATCHES, BATCHES / 2),
        (None, ["trainer.max_epochs=8", "+trainer.accumulate_grad_batches=2"], 4 * BATCHES, BATCHES),
        (None, ["trainer.max_epochs=8", "trainer.devices=2", "+trainer.num_nodes=2"], 2 * BATCHES, BATCHES / 4),
        (None, ["trainer.max_epochs=-1", "+trainer.max_steps=70"], 70, 7),
        (None, ["~trainer.max_epochs", "+trainer.max_steps=70"], 70, 7),
        (None, ["schedule=study"], 150_000, 2000),
        (None, [], 200 * BATCHES, BATCHES),
    ],
)
def test_all_students_have_the_same_steps_whatever_their_data(comparison, steps, students, expected, interval):
    config = comparison(steps=steps, students=students)
    assert lengths(config) == dict.fromkeys(("alone", "mixed"), (expected, -1, interval, None))
    assert common_steps(config) == expected and not other_lengths(config)


@pytest.mark.parametrize(
    ("students", "problem"),
    [
        (["+trainer.max_steps=many"], "students: trainer.max_steps=many: must be a whole number."),
        (
            ["+trainer.val_check_interval=0.25"],
            "students: trainer.val_check_interval=0.25: with steps=300, it must be a whole number of batches.",
        ),
    ],
)
def test_what_is_no_length_is_told(comparison, students, problem):
    steps = 300 if "interval" in problem else None
    assert list(length_problems(comparison(steps=steps, students=students))) == [problem]


@pytest.mark.parametrize(
    ("own", "length", "told"),
    [
        (["+trainer.max_steps=40"], (40, -1, 4, None), {"trainer.max_steps": 40}),
        (["trainer.max_steps=40", "++trainer.val_check_interval=20"], (40, -1, 20, None), {"trainer.max_steps": 40}),
        (["trainer.max_epochs=3"], (-1, 3, 1.0, 1), {"trainer.max_epochs": 3}),
        (["trainer.check_val_every_n_epoch=2"], (300, -1, 1.0, 2), None),
        (["model.train_ds.tokens_in_batch=900"], (300, -1, 30, None), {"model.train_ds.tokens_in_batch": 900}),
        (["+trainer.max_steps=300"], (300, -1, 30, None), None),
        ([f"model.train_ds.tokens_in_batch={TOKENS}"], (300, -1, 30, None), None),
    ],
)
def test_a_student_may_have_another_length_which_is_told(comparison, own, length, told):
    config = comparison(steps=300, methods={"mixed": [MIXED], "other": own})
    assert lengths(config) == {"alone": (300, -1, 30, None), "mixed": (300, -1, 30, None), "other": length}
    assert other_lengths(config) == ({"other": told} if told else {})


@pytest.mark.parametrize(
    ("students", "warmup", "ratio"),
    [
        (["schedule=study"], 300, None),
        (["schedule=study", "model.optim.sched.warmup_steps=77"], 77, None),
        ([], None, 0.1),
    ],
)
def test_the_warm_up_follows_the_steps(comparison, students, warmup, ratio):
    overrides = arguments(comparison(steps=3000, students=students))["alone"]
    cfg = composed("aayn_base_distill", *overrides)
    assert (cfg.model.optim.sched.get("warmup_steps"), cfg.model.optim.sched.warmup_ratio) == (warmup, ratio)
    assert cfg.trainer.max_steps == 3000
    assert not list(length_problems(comparison(steps=3000, students=students)))


def test_the_warm_up_of_a_schedule_for_all_trainings_follows_too(comparison):
    schedule = comparison(steps=3000, overrides=[f"model.train_ds.tokens_in_batch={TOKENS}", "schedule=study"])
    assert "++model.optim.sched.warmup_steps=300" in arguments(schedule)["mixed"]


def test_a_student_that_is_trained_in_epochs_keeps_the_warm_up_of_its_schedule(comparison):
    config = comparison(students=["schedule=study"], methods={"mixed": ["trainer.max_epochs=5"]})
    assert not any("warmup_steps" in override for override in arguments(config)["mixed"])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 300, "students": ["+trainer.max_steps=70"]}, "steps=300 and trainer.max_steps=70 in students"),
        ({"steps": 300, "students": ["trainer.max_epochs=8"]}, "steps=300 and trainer.max_epochs=8 in students"),
        ({"students": ["trainer.max_epochs=-1"]}, "steps has no value, and students have neither"),
        ({"students": ["trainer.max_epochs=8", "trainer.devices=auto"]}, "trainer.devices=auto: not known in number"),
        ({"methods": {"mixed": ["+trainer.max_steps=many"]}}, "methods.mixed: trainer.max_steps=many: must be"),
        (
            {"overrides": ["model.train_ds.tokens_in_batch=null"]},
            "overrides: model.train_ds.tokens_in_batch=None: must",
        ),
    ],
)
def test_what_is_no_length_is_told_before_anything_is_trained(comparison, values, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        check_comparison(comparison(**values))


def test_epochs_of_no_student_contradict_the_steps(comparison):
    """Those of `overrides` are for a teacher, too."""
    config = comparison(steps=300, overrides=["trainer.max_epochs=12"], students=["trainer.max_epochs=-1"])
    assert not list(length_problems(config))
    assert lengths(config)["alone"][:2] == (300, -1)


def test_a_student_needed_the_time_of_labels_caches_and_students_but_not_of_the_teacher(comparison, tmp_path):
    out = tmp_path / "runs"
    labelled = f"model.distillation.mix.corpora.pseudo={{source: {out}/labels_train/pseudo.src, target: x, share: 1}}"
    cached = f"model.distillation.teacher_cache={out}/cache_all"
    config = comparison(
        labels={"train": ["source=train.de"], "second": ["source=train.de", f"model={out}/first_seed0/model.nemo"]},
        caches={"all": [labelled]},
        methods={
            "word": [],
            "first": [labelled, cached],
            "second": [f"model.distillation.mix.corpora.pseudo.source={out}/labels_second/pseudo.src", cached],
        },
    )
    seconds = {"labels_train": 1.0, "cache_all": 10.0, "first_seed0": 100.0, "labels_second": 1000.0}
    runs = {run.folder.name: run for run in plan_runs(config)}
    for name, run in runs.items():
        if run.arguments:
            run.work.finish({"seconds": seconds.get(name, 10_000.0)})
    needed = {name: preparation_seconds(run) for name, run in runs.items()}
    assert needed["alone_seed0"] == needed["word_seed0"] == needed["teacher"] == 0
    assert needed["first_seed0"] == 11.0
    assert needed["second_seed0"] == 1111.0
