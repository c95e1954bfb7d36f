import pytest

from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.runs import Run, find_runs
from nemo_distill.report.sweep import find_sweeps
from nemo_distill.report.tables import sweep_table
from tests.report.fakes import cell_texts, write_evaluation

TAG = "val_sacreBLEU"


def run(name, best, *overrides, **record):
    return Run(name, {"status": "finished", "overrides": list(overrides), **record}, {TAG: [(1, best)]})


def test_methods_are_rows_and_temperatures_columns_with_parameters_and_compression_last(sweep_folder):
    (sweep,) = find_sweeps(find_runs(sweep_folder, [TAG]), TAG, None, "BLEU")
    table = sweep_table(sweep, "model.distillation.temperature=1,student=slim")
    assert table.columns == ("method", "temperature 1", "temperature 2", "temperature 10", "parameters", "compression")
    assert cell_texts(table) == [
        ["student=slim", "25.00", "28.00", "–", "100", "10.0x"],
        ["student=wide", "30.00", "31.00", "32.00", "100", "10.0x"],
    ]
    assert [cell.note for cell in table.rows[1]][1:4] == ["+20.0 %", "+24.0 %", "+28.0 %"]


def test_seeds_are_averaged_and_numbers_swept_together_are_looked_along_one_by_one():
    runs = [
        run(f"{temperature} {weight} {seed}", 10.0 * temperature + weight + seed, f"+a.weight={weight}",
            f"a.temperature={temperature}", f"seed={seed}")
        for temperature in (1, 2, 10) for weight in (0.5, 1) for seed in (0, 2)
    ]  # fmt: skip
    (sweep,) = find_sweeps(runs, TAG, None, "BLEU")
    assert sweep.numeric_keys == ["a.temperature", "a.weight"]
    assert (sweep.key, sweep.values) == ("a.temperature", ["1", "2", "10"])
    assert cell_texts(sweep_table(sweep, None))[0] == [
        "weight=0.5",
        "11.50 ± 1.41",
        "21.50 ± 1.41",
        "101.50 ± 1.41",
        "–",
        "–",
    ]
    assert sweep.along("a.weight").methods["temperature=2"] == {"0.5": [20.5, 22.5], "1": [21.0, 23.0]}


def test_a_key_is_called_by_as_much_of_its_name_as_tells_it_from_others():
    runs = [run(str(n), 1.0, f"model.encoder.layers={n}", f"model.decoder.layers={n}", f"seed={n}") for n in (1, 2)]
    (sweep,) = find_sweeps(runs, TAG, None, "BLEU")
    assert sweep.method(runs[0]) == "decoder.layers=1" and sweep.short("model.encoder.layers") == "encoder.layers"
    runs = [run(str(n), 1.0, f"a.b={n}", f"b={n}") for n in (1, 2)]
    assert find_sweeps(runs, TAG, None, "BLEU")[0].short("b") == "b"


@pytest.mark.parametrize(
    "runs",
    [
        [run("a", 1.0, "lr=1"), run("b", 2.0, "lr=1", "student=slim")],
        [run("a", 1.0, "lr=1", "seed=0"), run("b", 2.0, "lr=1", "seed=1")],
        [run("a", 1.0, "lr=1"), run("b", 2.0, "lr=2", status="interrupted")],
    ],
)
def test_other_commands_other_seeds_alone_and_unfinished_trainings_make_no_sweep(runs):
    assert find_sweeps(runs, TAG, None, "BLEU") == []


def test_of_several_systems_of_one_model_the_first_gives_the_score(tmp_path):
    evaluation = Evaluation.read(write_evaluation(tmp_path))
    evaluation.systems["baseline"]["sha256"] = evaluation.systems["teacher"]["sha256"]
    runs = [run(f"T{n}", 1.0, f"T={n}", models=[{"sha256": "teacher"}]) for n in range(2)]
    (sweep,) = find_sweeps(runs, TAG, evaluation, "BLEU")
    assert sweep.scores["T0"] == 40.0


@pytest.mark.parametrize(
    ("models", "name", "score"),
    [
        (("student_seed0", "student_seed1"), "BLEU, mean over the test sets", 33.0),
        (("student_seed0", "elsewhere"), "best val_sacreBLEU", 1.0),
    ],
)
def test_scores_are_an_evaluations_where_it_has_all_models(tmp_path, models, name, score):
    evaluation = Evaluation.read(write_evaluation(tmp_path))
    runs = [run(f"T{n}", 1.0, f"T={n}", models=[{"sha256": model}]) for n, model in enumerate(models)]
    (sweep,) = find_sweeps(runs, TAG, evaluation, "BLEU")
    assert (sweep.score_name, sweep.scores["T0"]) == (name, score)


@pytest.mark.parametrize(("declared", "lower"), [(["BLEU"], True), ([], False)])
def test_the_evaluation_says_whether_a_lower_score_is_better(tmp_path, declared, lower):
    evaluation = Evaluation.read(write_evaluation(tmp_path))
    evaluation.test_sets["flickr"]["lower_is_better"] = declared
    runs = [run(f"T{n}", 1.0, f"T={n}", models=[{"sha256": f"student_seed{n}"}]) for n in range(2)]
    assert find_sweeps(runs, TAG, evaluation, "BLEU")[0].lower_is_better is lower
