import json

import pytest

from nemo_distill.experiments.results_table import Result, as_markdown, table_rows, verdicts, write_results


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


def test_results_are_written_for_people_and_for_programs(tmp_path):
    write_results(results(31.0), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())[2]["bleu"] == 31.0
    assert (tmp_path / "results.md").read_text() == as_markdown(results(31.0))
    assert "| distilled | 0 | 100 | 10.0x | 31.00 | 9 | 1.0 |" in as_markdown(results(31.0))
