import json
from dataclasses import replace

import pytest

from nemo_distill.report.evaluation import Evaluation
from nemo_distill.report.runs import Run
from nemo_distill.report.sweep import find_sweeps
from nemo_distill.report.tables import costs_table, failure_rates, growth_table, quality_table, runs_table, speed_table
from tests.report.fakes import cell_texts, write_evaluation


@pytest.fixture
def evaluation(evaluation_folder):
    return Evaluation.read(evaluation_folder)


def changed(evaluation, **parts):
    return replace(evaluation, record={**evaluation.record, **parts})


def test_seeds_are_averaged_and_compared_with_the_baseline(evaluation):
    table = quality_table(evaluation, "BLEU", "baseline")
    assert table.columns == ("system", "flickr", "gap closed", "parameters", "compression")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["teacher", "40.00", "", "1,000", "1.0x"],
        ["baseline", "30.00", "", "100", "10.0x"],
        ["student", "34.50 ± 2.12*", "45 %", "100", "10.0x"],
    ]
    assert [row[1].note for row in table.rows] == ["+33.3 %", "", "+15.0 %"]
    assert table.rows[2][2].note == "20 to 70 %"
    assert (
        table.rows[2][1].title == "student_seed0 against baseline: p = 0.01, student_seed1 against baseline: p = 0.04"
    )


@pytest.mark.parametrize("change", [{"p_value": 0.2}, {"difference": -3.0}])
def test_one_seed_that_does_not_differ_or_differs_the_other_way_takes_the_star_away(evaluation, change):
    record = json.loads(json.dumps(evaluation.test_sets))
    record["flickr"]["comparisons"][1] |= change
    table = quality_table(changed(evaluation, test_sets=record), "BLEU", "baseline")
    assert table.rows[2][1].text == "34.50 ± 2.12"


def test_a_change_is_that_of_the_seeds_that_the_baseline_has_too(evaluation):
    systems = json.loads(json.dumps(evaluation.systems))
    for name, seed in (("baseline", 1), ("student_seed0", 0), ("student_seed1", 1)):
        systems[name]["seed"] = seed
    table = quality_table(changed(evaluation, systems=systems), "BLEU", "baseline")
    assert [row[1].note for row in table.rows] == ["+33.3 %", "", "+20.0 %"]  # 36 over 30
    assert table.rows[2][1].text == "34.50 ± 2.12*"


def test_only_seeds_that_are_equal_decide_on_a_star(evaluation):
    systems, record = (json.loads(json.dumps(part)) for part in (evaluation.systems, evaluation.test_sets))
    for name, seed in (("baseline", 1), ("student_seed0", 0), ("student_seed1", 1)):
        systems[name]["seed"] = seed
    record["flickr"]["comparisons"][0]["p_value"] = 0.9
    table = quality_table(changed(evaluation, systems=systems, test_sets=record), "BLEU", "baseline")
    assert table.rows[2][1].text == "34.50 ± 2.12*"
    assert table.rows[2][1].title == "student_seed1 against baseline: p = 0.04"


def test_a_baselines_own_seeds_get_no_star(evaluation):
    record = json.loads(json.dumps(evaluation.test_sets))
    record["flickr"]["comparisons"] = [
        one | {"baseline": "student_seed0"} for one in record["flickr"]["comparisons"][1:]
    ]
    table = quality_table(changed(evaluation, test_sets=record), "BLEU", "student")
    assert [row[1].text for row in table.rows] == ["40.00", "30.00", "34.50 ± 2.12"]


def test_the_baseline_is_what_systems_were_compared_with_or_the_first(evaluation):
    assert evaluation.default_baseline == "baseline"
    alone = {"flickr": {**evaluation.test_sets["flickr"], "comparisons": []}}
    assert changed(evaluation, test_sets=alone).default_baseline == "teacher"


def test_speeds_are_shown_where_they_were_measured(evaluation):
    table = speed_table(evaluation)
    assert table.columns[:6] == ("system", "runs in", "MB", "smaller", "faster", "sentences/s")
    assert [cell.text for cell in table.rows[1]][:6] == ["baseline", "PyTorch", "0.0", "10.0x", "5.0x", "50.0"]
    assert table.rows[2][5].text == "57.5"  # the mean of two seeds
    unmeasured = {name: {**system, "speed": None} for name, system in evaluation.systems.items()}
    unmeasured["baseline"] |= {"engine": "text", "bytes": None}
    table = speed_table(changed(evaluation, systems=unmeasured))
    assert table.columns == ("system", "runs in", "MB", "smaller")
    assert [cell.text for cell in table.rows[1]] == ["baseline", "only text", "not measured", "–"]


def test_a_row_names_the_models_of_its_size_that_were_trained_otherwise(evaluation):
    systems = json.loads(json.dumps(evaluation.systems))
    for name, steps in (("baseline", 10), ("student_seed0", 20), ("student_seed1", 20)):
        systems[name]["training"] = {"steps": steps, "seconds": 90.0}
    unlike = changed(evaluation, systems=systems)
    table = quality_table(unlike, "BLEU", "baseline")
    assert table.columns[-1] == "trained unlike" and [row[-1].text for row in table.rows] == [
        "",
        "student",
        "baseline",
    ]
    costs = costs_table(unlike)
    assert costs.columns == ["system", "steps", "training, h:mm:ss"]
    assert [cell.text for cell in costs.rows[1]] == ["baseline", "10", "0:01:30"]
    assert costs_table(evaluation) is None


def test_a_gap_that_is_not_given_says_why(evaluation):
    record = json.loads(json.dumps(evaluation.test_sets))
    record["flickr"]["gaps"]["student"] |= {"closed": None, "reason": "no baseline"}
    cell = quality_table(changed(evaluation, test_sets=record), "BLEU", "baseline").rows[2][2]
    assert (cell.text, cell.title) == ("not given", "no baseline")


def test_rates_of_failures_have_intervals_and_link_to_the_sentences(evaluation):
    table = failure_rates(evaluation, "flickr", linked=True)
    assert table.columns == ("failure", "teacher", "baseline", "student_seed0", "student_seed1")
    assert [row[0].text for row in table.rows] == ["tags, placeholders changed", "made-up words"]  # no loops
    nothing, some = table.rows[0][1:3]
    assert nothing == ("0.0", "0.0 to 561.5", "0 of 3 sentences", "")
    assert some == ("333.3", "61.5 to 792.3", "1 of 3 sentences", "#set=flickr&failure=tags&system=baseline")
    assert failure_rates(evaluation, "flickr", linked=False).rows[0][2].link == ""


def test_a_rate_that_differs_significantly_has_a_star(tmp_path):
    evaluation = Evaluation.read(write_evaluation(tmp_path))
    for comparison in evaluation.failures["flickr"]["comparisons"]:
        if (comparison["kind"], comparison["system"]) == ("tags", "baseline"):
            comparison["p_value_holm"] = 0.0123
    cells = failure_rates(evaluation, "flickr", linked=True).rows[0]
    assert cells[2].text == "333.3*" and cells[2].title == (
        "1 of 3 sentences; differs from teacher: p = 0.012 by Holm"
    )
    assert [cell.text for cell in cells].count("0.0") == 3


def test_a_training_says_how_it_was_made_and_one_without_a_record_that_nothing_is_known():
    record = {
        "status": "failed", "seconds": 3725.4, "seed": 4, "epochs": 2.36, "best": {"monitor": "val_loss", "value": 1.23456},
        "made_with": {"device": "1 x cpu", "versions": {"torch": "2.13.0"}, "git_revision": "0123456789", "date": "now"},
    }  # fmt: skip
    known, unknown, drawn = runs_table([Run("a", record, {}), Run("b", {}, {}), Run("c", {"seed": None}, {})]).rows
    assert [cell.text for cell in known] == [
        "a",
        "failed",
        "1.235",
        "–",
        "2.4",
        "–",
        "1:02:05",
        "4",
        "1 x cpu",
        "01234567",
        "now",
    ]
    assert known[-1].title == "now; torch 2.13.0"
    assert [cell.text for cell in unknown][:2] == ["b", "unknown"]
    assert unknown[7].text == drawn[7].text == ""


def run(name, overrides=(), score=None, curve=()):
    curve = curve or [(10, score)]
    return Run(name, {"overrides": list(overrides), "status": "finished"}, {"val_sacreBLEU": curve})


def test_a_sweep_of_the_amount_of_text_predicts_ten_times_as_much():
    fractions = [0.01, 0.02, 0.04, 0.08, 0.16]
    runs = [
        run(f"{fraction}", [f"model.distillation.mix.corpora.real.fraction={fraction}"], 40 - fraction**-0.5)
        for fraction in fractions
    ]
    (row,) = cell_texts(growth_table([], find_sweeps(runs, "val_sacreBLEU", None, "BLEU"), "val_sacreBLEU"))
    assert row[:5] == ["fraction, best val_sacreBLEU", "5", "0.16", "37.50", "1.6"]
    assert abs(float(row[5]) - (0.16**-0.5 - 1.6**-0.5)) < 0.1


def test_training_curves_predict_four_times_the_steps_or_say_why_not():
    long = [(100 * number, 30 - 10 / number) for number in range(1, 11)]
    rows = cell_texts(growth_table([run("long", curve=long), run("short", score=20.0)], [], "val_sacreBLEU"))
    assert rows[0][0] == "steps of long, val_sacreBLEU" and rows[0][4] == "4,000" and float(rows[0][5]) > 0.1
    assert rows[1][5].startswith("not predicted: 1 amounts")


def test_what_is_better_when_lower_grows_downwards():
    runs = [Run("a", {}, {"val_loss": [(100 * number, 2 + 1 / number) for number in range(1, 11)]})]
    ((*_, gain),) = cell_texts(growth_table(runs, [], "val_loss"))
    assert float(gain) < 0


def test_a_sweep_whose_lower_scores_are_better_grows_downwards():
    lines = [100, 200, 400, 800, 1600]
    runs = [run(f"{number}", [f"mix.lines={number}"], 2 + 10 * number**-0.5) for number in lines]
    (sweep,) = find_sweeps(runs, "val_sacreBLEU", None, "BLEU")
    ((*_, gain),) = cell_texts(growth_table([], [replace(sweep, lower_is_better=True)], "val_sacreBLEU"))
    assert float(gain) < 0


def test_a_key_that_is_no_amount_predicts_nothing():
    runs = [run(f"{value}", [f"model.distillation.temperature={value}"], value) for value in (1, 2, 4, 8, 16)]
    assert growth_table([], find_sweeps(runs, "val_sacreBLEU", None, "BLEU"), "val_sacreBLEU") is None
