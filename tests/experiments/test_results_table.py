import json

import pytest

from nemo_distill.evaluation.results import Result
from nemo_distill.experiments.results_table import as_markdown, table_rows, verdicts, write_results


def results(*distilled):
    rows = [Result("teacher", 0, False, 1000, 40.0, "sig", 60.0, 2.0)]
    for seed, score in enumerate(distilled):
        rows += [
            Result("baseline", seed, False, 100, 30.0, "sig", 5.0, 1.0),
            Result("distilled", seed, True, 100, score, "sig", 9.0, 1.0),
        ]
    return rows


def test_compression_is_relative_to_the_teacher():
    assert [row[3] for row in table_rows(results(31.0))] == ["1.0x", "10.0x", "10.0x"]


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        (
            (31.0, 30.5),
            "beats the baseline of its size with every seed: +0.75 BLEU on average; +1.00 (seed 0), +0.50 (seed 1).",
        ),
        ((32.0, 29.0), "on average, but NOT with every seed: +0.50 BLEU"),
        ((29.0, 30.0), "did NOT beat the baseline of its size: -0.50 BLEU"),
    ],
)
def test_the_verdict_is_honest(scores, sentence):
    assert sentence in verdicts(results(*scores))[0]


def test_a_method_is_compared_with_the_baseline_of_its_size_and_seed_only():
    wide = [
        Result("wide", 0, False, 500, 35.0, "sig", 5.0, 1.0),
        Result("wide_distilled", 0, True, 500, 35.5, "sig", 5.0, 1.0),
        Result("odd_size", 0, True, 499, 35.5, "sig", 5.0, 1.0),
    ]
    sentences = verdicts([*results(31.0), *wide])
    assert [sentence.split()[0] for sentence in sentences] == ["distilled", "wide_distilled"]
    assert "+0.50 BLEU" in sentences[1]


def several(**scores):
    """A teacher, and groups of one size with scores of seeds 0, 1, ...; those called `distilled` are methods."""
    rows = [Result("teacher", 0, False, 100, 40.0, "sig", 60.0, 2.0)]
    for group, values in scores.items():
        distilled = group.startswith("distilled")
        rows += [Result(group, seed, distilled, 100, value, "sig", 5.0, 1.0) for seed, value in enumerate(values)]
    return rows


@pytest.mark.parametrize("names", [("baseline_long", "baseline"), ("baseline", "baseline_long")])
def test_no_method_beats_a_baseline_while_it_loses_to_another_of_its_size(names):
    scores = {"baseline_long": [35.0], "baseline": [30.0]}
    (sentence,) = verdicts(several(**{name: scores[name] for name in names}, distilled=[32.0]))
    assert sentence == (
        "distilled did NOT beat baseline_long, the best of 2 baselines of its size: -3.00 BLEU on average; "
        "-3.00 (seed 0)."
    )


def test_with_every_seed_is_said_of_every_baseline():
    (sentence,) = verdicts(several(a=[30.0, 30.0], b=[32.0, 27.0], distilled=[31.0, 31.0]))
    assert sentence.startswith("distilled beats a, the best of 2 baselines of its size on average, but NOT with every")
    (sentence,) = verdicts(several(a=[30.0, 30.0], b=[32.0], distilled=[31.0, 34.0]))
    assert sentence.startswith("distilled did NOT beat b, the best of 2 baselines")


def test_a_teacher_of_the_same_size_is_no_baseline():
    assert verdicts(several(distilled=[32.0])) == []


def test_the_table_says_what_label_smoothing_each_model_had():
    plain, smoothed = (Result("a", 0, False, 100, 30.0, "s", 1.0, 1.0, smoothing) for smoothing in (0.0, 0.1))
    assert [row[-1] for row in table_rows([plain, smoothed, *results()])] == ["0", "0.1", ""]


def test_results_are_written_for_people_and_for_programs(tmp_path):
    write_results(results(31.0), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())[2]["bleu"] == 31.0
    assert (tmp_path / "results.md").read_text() == as_markdown(results(31.0))
    assert "| distilled | 0 | 100 | 10.0x | 31.00 | 9 | 1.0 |  |" in as_markdown(results(31.0))
