from dataclasses import replace

from nemo_distill.report.growth import growth_table
from nemo_distill.report.runs import Run
from nemo_distill.report.sweep import find_sweeps


def run(name, overrides=(), score=None, curve=()):
    curve = curve or [(10, score)]
    return Run(name, {"overrides": list(overrides), "status": "finished"}, {"val_sacreBLEU": curve})


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_a_sweep_of_the_amount_of_text_predicts_ten_times_as_much():
    fractions = [0.01, 0.02, 0.04, 0.08, 0.16]
    runs = [
        run(f"{fraction}", [f"model.distillation.mix.corpora.real.fraction={fraction}"], 40 - fraction**-0.5)
        for fraction in fractions
    ]
    (row,) = texts(growth_table([], find_sweeps(runs, "val_sacreBLEU", None, "BLEU"), "val_sacreBLEU"))
    assert row[:5] == ["fraction, best val_sacreBLEU", "5", "0.16", "37.50", "1.6"]
    assert abs(float(row[5]) - (0.16**-0.5 - 1.6**-0.5)) < 0.1


def test_training_curves_predict_four_times_the_steps_or_say_why_not():
    long = [(100 * number, 30 - 10 / number) for number in range(1, 11)]
    rows = texts(growth_table([run("long", curve=long), run("short", score=20.0)], [], "val_sacreBLEU"))
    assert rows[0][0] == "steps of long, val_sacreBLEU" and rows[0][4] == "4,000" and float(rows[0][5]) > 0.1
    assert rows[1][5].startswith("not predicted: 1 amounts")


def test_what_is_better_when_lower_grows_downwards():
    runs = [Run("a", {}, {"val_loss": [(100 * number, 2 + 1 / number) for number in range(1, 11)]})]
    ((*_, gain),) = texts(growth_table(runs, [], "val_loss"))
    assert float(gain) < 0


def test_a_sweep_whose_lower_scores_are_better_grows_downwards():
    lines = [100, 200, 400, 800, 1600]
    runs = [run(f"{number}", [f"mix.lines={number}"], 2 + 10 * number**-0.5) for number in lines]
    (sweep,) = find_sweeps(runs, "val_sacreBLEU", None, "BLEU")
    ((*_, gain),) = texts(growth_table([], [replace(sweep, lower_is_better=True)], "val_sacreBLEU"))
    assert float(gain) < 0


def test_a_key_that_is_no_amount_predicts_nothing():
    runs = [run(f"{value}", [f"model.distillation.temperature={value}"], value) for value in (1, 2, 4, 8, 16)]
    assert growth_table([], find_sweeps(runs, "val_sacreBLEU", None, "BLEU"), "val_sacreBLEU") is None
