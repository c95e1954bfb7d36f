import gzip
import json
from types import SimpleNamespace

import pytest

from nemo_distill.commands import sizing
from nemo_distill.commands.generate_pseudo_labels import check_labelling
from nemo_distill.commands.recipe import RecipeConfigs, RecipeText
from nemo_distill.commands.recipe_bill import Cost, RecipeBill
from nemo_distill.commands.size_student import SizingConfig, check_sizing, run_sizing
from nemo_distill.commands.sizing import Sizing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_config
from nemo_distill.evaluation.shape_speed import MeasuredShape
from nemo_distill.evaluation.student_sizes import SizeTarget
from tests.conftest import composed, tiny_config
from tests.hugging_face_folders import write_folder

QUICK = ("speed.sentences=4", "speed.latency_sentences=1", "speed.rounds=2", "recipe.seconds=0.5")


def config(*overrides):
    return composed("size_student", *overrides)


@pytest.fixture(scope="module")
def large_teacher(tokenizer, tmp_path_factory):
    """Large enough for students of the grid to be smaller."""
    from nemo_distill import DistillableMTEncDecModel

    path = tmp_path_factory.mktemp("large") / "teacher.nemo"
    size = {"hidden_size": 256, "inner_size": 1024, "num_layers": 3, "num_attention_heads": 4}
    DistillableMTEncDecModel(tiny_config(tokenizer, seed_size=size)).save_to(str(path))
    return path


def found(cfg):
    check_sizing(cfg)
    return run_sizing(read_config(SizingConfig, cfg))


def test_the_largest_students_that_meet_the_target_are_printed_with_their_overrides(
    large_teacher, tmp_path, capfd, caplog
):
    cfg = config(f"teacher={large_teacher}", "target.parameters=3000000", "speed=null", f"output_dir={tmp_path}/sizes")
    students = found(cfg)
    totals = [student.candidate.count.total for student in students]
    assert totals == sorted(totals, reverse=True) and totals[0] <= 3_000_000
    printed = capfd.readouterr().out
    assert f"{totals[0]:,}" in printed and "slim_1x1" in printed
    assert "Speeds are not measured: speed=null." in caplog.text


def test_without_a_target_the_students_with_a_name_are_listed(large_teacher, tmp_path):
    students = found(config(f"teacher={large_teacher}", "speed=null", f"output_dir={tmp_path}/sizes"))
    assert [student.name for student in students] == ["slim_1x1"]  # the others are larger than this teacher


def test_a_target_below_all_students_is_told_and_written(large_teacher, tmp_path, caplog):
    for target in (SizeTarget(), SizeTarget(parameters=10)):
        found = run_sizing(SizingConfig(large_teacher, target=target, speed=None, output_dir=tmp_path))
    assert found == json.loads((tmp_path / "sizes.json").read_text())["students"] == []
    assert "The smallest has" in caplog.text and "The smallest has" in (tmp_path / "sizes.md").read_text()


def test_all_mistakes_are_told_at_once(tmp_path):
    keys = ("target.dtype=int4", "target.hours=2", "shown=0", "shared_embeddings=maybe", "+recipe.label.engine=nemo")
    with pytest.raises(ConfigurationError) as raised:
        check_sizing(config(f"teacher={tmp_path}/none.nemo", *keys))
    *others, teacher = sorted(raised.value.problems, key=lambda problem: problem.startswith("teacher="))
    expected = ["recipe.label=", "shared_embeddings=maybe", "shown=0", "target.dtype=int4", "target.hours=2.0"]
    assert all(problem.startswith(key) for problem, key in zip(sorted(others), expected, strict=True))
    assert teacher.startswith(f"teacher={tmp_path}/none.nemo:")


def test_a_damaged_tokenizer_of_a_teacher_is_told(corpus, tmp_path):
    folder = write_folder("marian", tmp_path / "marian", corpus)
    (folder / "target.spm").write_bytes(b"torn")
    with pytest.raises(ConfigurationError, match=r"^1 problem.*\n.* teacher=.*target\.spm' is not a sentencepiece"):
        check_sizing(config(f"teacher={folder}"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["+recipe.distill.trainer.max_stepps=3"], "recipe.distill: trainer has the unknown key 'max_stepps'"),
        (
            ["+recipe.distill.distilation=seq_level"],
            "recipe.distill has the unknown key 'distilation'; the closest known",
        ),
        (["+recipe.cache.k=16"], "recipe.cache has the unknown key 'k'"),
        (
            ["+recipe.distill.distillation={temperature: 3}"],
            "recipe.distill.distillation={'temperature': 3}: must be the",
        ),
        (["+recipe.distill.trainer=abc"], "recipe.distill.trainer=abc: must be a section of keys"),
        (["+recipe.distill.student=wide_3x4"], "recipe.distill.student=wide_3x4: leave it out"),
        (["+recipe.distill.distillation=none"], "recipe.distill: "),
        (["+recipe.label.search.beam_size=0"], "recipe.label: search.beam_size=0"),
        (["+recipe.label.engine=api"], "recipe.label: engine=api"),
        (["recipe.cache={cache:{k:-1}}"], "recipe.cache: cache.k=-1"),
        (["recipe.label=null", "recipe.target=null"], "recipe.target has no value"),
        ([], "recipe.distill: trainer.max_steps has no value"),
    ],
)
def test_a_recipe_is_checked_as_its_jobs_are(keys, said, large_teacher, corpus):
    text = [f"recipe.source={corpus}/train.de", f"recipe.target={corpus}/train.en"]
    with pytest.raises(ConfigurationError) as raised:
        check_sizing(config(f"teacher={large_teacher}", *text, *keys))
    assert any(problem.startswith(said) for problem in raised.value.problems), raised.value.problems


def test_packed_text_of_one_side_and_weights_in_the_loss_are_taken(large_teacher, corpus, tmp_path):
    packed = tmp_path / "train.de.gz"
    packed.write_bytes(gzip.compress((corpus / "train.de").read_bytes().replace(b"\n", b"\r\n")))
    keys = ["+recipe.distill.trainer.max_steps=3", "+recipe.distill.model.distillation.mix.weighting=loss"]
    keys += ["+recipe.label={filters: null}", "recipe.cache={cache: {k: 4}}", f"recipe.source={packed}"]
    check_sizing(config(f"teacher={large_teacher}", *keys))


SELECTIONS = [
    "selection: mbr",
    "selection: interpolation, metric_language: fr",
    "selection: interpolation, metric: chrf",
    "selection: quality, quality: {{file: {scores}, metric: COMET}}",
    "filters: {{quality_quantile: 0.2}}, quality: {{file: {scores}, metric: COMET}}",
    "selection: mbr, filters: {{consensus_quantile: 0.1, score_quantile: null}}, more_labels: [{labels}]",
]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_files_about_the_whole_text_are_not_asked_of_a_sample(selection, large_teacher, corpus, tmp_path):
    (tmp_path / "scores").write_text("0.5\n")
    given = selection.format(scores=tmp_path / "scores", labels=tmp_path / "more")
    keys = [f"recipe.source={corpus}/train.de", "recipe.distill=null"]
    keys += [f"+recipe.label={{reference: {corpus}/train.en, {given}, search: {{n_best: 4}}}}"]
    section = read_config(SizingConfig, config(f"teacher={large_teacher}", *keys))
    configs = RecipeConfigs(section.recipe, large_teacher, shared=False)
    check_labelling(configs.label_sample(corpus / "val.de", tmp_path / "labels"))


def test_files_about_the_whole_text_are_checked(large_teacher, corpus, tmp_path):
    for name, value in (("reference", f"{tmp_path}/none"), ("more_labels", f"[{tmp_path}/none]")):
        keys = [f"recipe.source={corpus}/train.de", "recipe.distill=null"]
        keys += [f"+recipe.label={{{name}: {value}, selection: mbr, search: {{n_best: 4}}}}"]
        with pytest.raises(ConfigurationError, match=rf"recipe\.label: {name}.*{tmp_path}/none"):
            check_sizing(config(f"teacher={large_teacher}", *keys))


@pytest.fixture(scope="module")
def recipe(large_teacher, corpus, tmp_path_factory):
    """The keys of a whole recipe: labels, whose pairs are cached and trained on."""
    folder = tmp_path_factory.mktemp("sizes")
    return [
        f"teacher={large_teacher}", f"output_dir={folder}", f"recipe.source={corpus}/train.de", *QUICK,
        "recipe.accelerator=cpu", "+recipe.label={filters: null, search: {beam_size: 1, max_delta: 0}}",
        "recipe.cache={cache: {k: 4}}",
        "+recipe.distill={trainer: {max_steps: 3, devices: 2, val_check_interval: 5000}, model: {train_ds: {tokens_in_batch: 128, num_workers: 0}}}",
    ]  # fmt: skip


def test_a_bill_has_labels_cache_and_training_and_is_measured_once(recipe, monkeypatch, caplog):
    pytest.importorskip("ctranslate2")
    (student,) = found(config(*recipe))
    folder = read_config(SizingConfig, config(*recipe)).output_dir
    record = json.loads((folder / "sizes.json").read_text())
    for cost in (record["labelling"], record["caching"], record["students"][0]["training"]):
        assert 0 < cost["least"] <= cost["hours"] <= cost["most"] and cost["bytes"] > 0
    parts = (record["labelling"], record["caching"], record["students"][0]["training"])
    assert record["students"][0]["hours"] == pytest.approx(sum(part["hours"] for part in parts))
    assert student.training.bytes > 12 * student.candidate.count.total  # weights, and Adam's two numbers for each
    assert record["made_with"]["date"] and student.measured.sentences_per_second > 0
    assert "slim_1x1" in (folder / "sizes.md").read_text() and "labels" in (folder / "sizes.md").read_text()
    for probe in ("_label", "_cache", "_train"):
        monkeypatch.setattr(RecipeBill, probe, lambda self, *_: pytest.fail("it was measured again"))
    caplog.clear()
    assert found(config(*recipe)) == [student]
    assert "probing" not in caplog.text
    assert found(config(*recipe, "target.hours=0.000001")) == []


def test_costs_are_the_probes_times_the_lines_of_the_text(monkeypatch, recipe, tmp_path):
    source = tmp_path / "text.de"
    source.write_text("ein Satz\n" * 7200)
    section = read_config(SizingConfig, config(*recipe, f"recipe.source={source}")).recipe
    bill = RecipeBill(RecipeConfigs(section, tmp_path / "teacher.nemo", shared=False), tmp_path)
    probe = {"setup": 3600.0, "repeats": [0.5, 2.0, 1.0], "bytes_each": 10.0}
    monkeypatch.setattr(RecipeBill, "_kept", lambda self, job, make, **more: probe)
    assert bill.labelling() == Cost(3.0, 2.0, 5.0, 72_000.0)
    assert bill.labelling() + Cost(1.0, 1.0, 1.0, 1.0) == Cost(4.0, 3.0, 6.0, 72_001.0)


def test_the_sample_of_a_long_text_is_spread_over_it_and_keeps_pairs(tmp_path, monkeypatch, recipe):
    for side in ("de", "en"):
        (tmp_path / f"text.{side}").write_text("".join(f"{number}{side}\n" for number in range(30_000)) + "\n")
    keys = [f"recipe.source={tmp_path}/text.de", f"recipe.target={tmp_path}/text.en"]
    text = RecipeText(read_config(SizingConfig, config(*recipe, *keys)).recipe)
    assert text.lines == 30_001 and len(text.pairs) == len(set(text.pairs)) == pytest.approx(12_000, abs=1)
    numbers = [int(source[:-2]) for source, target in text.pairs if source[:-2] == target[:-2]]
    assert len(numbers) == len(text.pairs) and sum(numbers) / len(numbers) == pytest.approx(15_000, rel=0.03)


@pytest.mark.parametrize(("speedup", "names"), [(1.5, {"fast"}), (9.0, set())])
def test_students_that_are_too_slow_are_left_out(speedup, names, large_teacher, tmp_path, monkeypatch):
    def measured(config, *_):
        rate = {3: 10.0, 1: 20.0, 2: 5.0}.get(config["encoder"]["num_layers"], 1.0)
        return MeasuredShape(1.0, [rate], 1.0)

    monkeypatch.setattr(sizing, "measured_shape", measured)
    cfg = config(f"teacher={large_teacher}", f"target.speedup={speedup}", f"output_dir={tmp_path}")
    students = found(cfg)
    assert all(student.measured.sentences_per_second >= 10 * speedup for student in students)
    assert bool(students) == bool(names)


@pytest.mark.parametrize(("megabytes", "is_met"), [(11.9, True), (12.1, False)])
def test_the_measured_export_counts_with_its_vocabularies(megabytes, is_met):
    sizing = SimpleNamespace(target=SizeTarget(megabytes=12), faster=lambda measured: None, hours=lambda student: None)
    student = SimpleNamespace(measured=MeasuredShape(megabytes, [1.0], 1.0))
    assert Sizing.is_met_by(sizing, student) is is_met
