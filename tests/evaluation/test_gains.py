"""What is said of distilled systems beside the baselines of their size."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from nemo_distill.evaluation.gains import gain_sentences, gaps_closed, interval, seed_differences
from nemo_distill.evaluation.likeness import compared_pairs
from tests.evaluation.fakes import SET, SYSTEM


def evaluation(*systems):
    """An evaluation of systems: name, group, seed, role, parameters and BLEU."""
    keys = ("group", "seed", "role", "parameters")
    return {
        "systems": {name: SYSTEM | dict(zip(keys, rest)) for name, *rest, _ in systems},
        "test_sets": {"test": SET | {"scores": {name: {"BLEU": {"value": score}} for name, *_, score in systems}}},
    }


def several(sizes=None, **scores):
    """A teacher of 40 BLEU, and groups with scores of seeds 0, 1, ...; those called `distilled...` are distilled."""
    rows = [("teacher", "teacher", None, None, 100, 40.0)]
    for group, values in scores.items():
        role = "distilled" if group.startswith("distilled") else "baseline"
        size = (sizes or {}).get(group, 100)
        rows += [(f"{group}_seed{seed}", group, seed, role, size, score) for seed, score in enumerate(values)]
    return evaluation(*rows)


def verdicts(found):
    return list(gain_sentences(found, "test", "BLEU"))


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
    assert sentence in verdicts(several(baseline=[30.0] * len(scores), distilled=scores))[0]


def test_a_method_is_compared_with_the_baseline_of_its_size_and_seed_only():
    sizes = {"wide": 500, "distilled_wide": 500, "distilled_odd": 499}
    scores = {
        "baseline": [30.0],
        "distilled": [31.0],
        "wide": [35.0],
        "distilled_wide": [35.5],
        "distilled_odd": [35.5],
    }
    sentences = verdicts(several(sizes, **scores))
    assert [sentence.split()[0] for sentence in sentences] == ["distilled", "distilled_wide"]
    assert "+0.50 BLEU" in sentences[1]


@pytest.mark.parametrize("names", [("baseline_long", "baseline"), ("baseline", "baseline_long")])
def test_no_method_beats_a_baseline_while_it_loses_to_another_of_its_size(names):
    scores = {"baseline_long": [35.0], "baseline": [30.0]}
    (sentence,) = verdicts(several(**{name: scores[name] for name in names}, distilled=[32.0]))
    assert sentence == (
        "distilled did NOT beat baseline_long, the best of 2 baselines of its size: -3.00 BLEU (seed 0 alone, "
        "not tested)."
    )


def test_with_every_seed_is_said_of_every_baseline():
    (sentence,) = verdicts(several(a=[30.0, 30.0], b=[32.0, 27.0], distilled=[31.0, 31.0]))
    assert sentence.startswith("distilled beats a, the best of 2 baselines of its size on average, but NOT with every")
    (sentence,) = verdicts(several(a=[30.0, 30.0], b=[32.0], distilled=[31.0, 34.0]))
    assert sentence.startswith("distilled did NOT beat b, the best of 2 baselines")


def test_a_teacher_of_the_same_size_is_no_baseline():
    assert verdicts(several(distilled=[32.0])) == []


def test_systems_without_seeds_are_compared_too():
    rows = [("a", "a", None, "baseline", 100, 30.0), ("b", "b", None, "distilled", 100, 31.0)]
    found = evaluation(*rows)
    assert verdicts(found) == ["b scores more than the baseline of its size: +1.00 BLEU (not tested)."]
    test = {"system": "a", "baseline": "b", "metric": "BLEU", "difference": -1.0, "p_value": 0.01}
    found["test_sets"]["test"]["comparisons"] = [test, {**test, "metric": "chrF", "p_value": 0.9}]
    assert verdicts(found) == ["b beats the baseline of its size: +1.00 BLEU (p = 0.0100)."]
    test["p_value"] = 0.06
    assert verdicts(found) == [
        "b does NOT beat the baseline of its size by more than chance: +1.00 BLEU (p = 0.0600)."
    ]


def test_a_training_whose_batches_are_not_known_is_told():
    """As of tarred data that was made by someone else."""
    found = several(baseline=[30.0], distilled=[37.0])
    found["systems"]["distilled_seed0"]["training"] = {"steps": 1000, "tokens_in_batch": 2000}
    found["systems"]["baseline_seed0"]["training"] = {"steps": 1000, "tokens_in_batch": None}
    said = " With how many tokens in a batch baseline was trained is not known, so the trainings may differ."
    assert verdicts(found)[0].endswith(said)


def test_a_training_of_which_nothing_is_known_is_told():
    found = several(baseline=[30.0], distilled=[37.0])
    found["systems"]["distilled_seed0"]["training"] = {"steps": 1000}
    assert verdicts(found)[0].endswith(" How long baseline was trained is not known, so the trainings may differ.")


def test_systems_of_unknown_size_are_not_compared():
    rows = [("a", "a", None, "baseline", None, 30.0), ("b", "b", None, "distilled", None, 31.0)]
    assert verdicts(evaluation(*rows)) == []


def test_a_baseline_that_was_trained_otherwise_is_not_beaten():
    found = several(baseline=[30.0], baseline_long=[30.5], distilled=[37.0])
    for name, steps in (("baseline_seed0", 984), ("baseline_long_seed0", 4536), ("distilled_seed0", 4536)):
        found["systems"][name]["training"] = {"steps": steps, "tokens_in_batch": 4096}
    beaten, other = verdicts(found)
    assert beaten == "distilled scores more than the baseline of its size: +6.50 BLEU (seed 0 alone, not tested)."
    assert other == (
        "distilled and baseline have the same size but were trained differently (4,536 steps against 984), so neither "
        "is said to beat the other."
    )
    found["systems"]["baseline_long_seed0"]["training"]["tokens_in_batch"] = 2048
    assert not any("beats" in said or "scores more" in said for said in verdicts(found))
    assert "(4,096 tokens in a batch against 2,048)" in verdicts(found)[1]


def test_a_baseline_in_another_engine_is_not_beaten():
    found = several(baseline=[30.0], distilled=[37.0])
    found["systems"]["baseline_seed0"]["engine"] = "ctranslate2"
    assert verdicts(found) == []


def gap(found, p_value=0.001, difference=1.0, resampled=None):
    """The gap that `distilled` closes, where the teacher was tested against each seed of each baseline."""
    names = [name for name, system in found["systems"].items() if system["role"] == "baseline"]
    comparison = {"system": "teacher", "metric": "BLEU", "difference": difference, "p_value": p_value}
    found["test_sets"]["test"]["comparisons"] = [comparison | {"baseline": name} for name in names]
    resampled = resampled or {
        name: [of_system["BLEU"]["value"]] * 10 for name, of_system in found["test_sets"]["test"]["scores"].items()
    }
    return gaps_closed(found, "test", "BLEU", resampled)["distilled"]


def test_the_gap_is_the_share_of_the_way_to_the_teacher_with_students_t_over_seeds():
    found = gap(several(baseline=[30.0, 32.0, 31.0], distilled=[35.0, 37.0, 37.75]))
    shares = [5 / 10, 5 / 8, 6.75 / 9]
    expected = ttest_1samp(shares, 0).confidence_interval(0.95)
    assert (found["teacher"], found["baseline"], found["reason"]) == ("teacher", "baseline", None)
    assert found["closed"] == {
        "value": pytest.approx(sum(shares) / 3), "low": pytest.approx(expected.low),
        "high": pytest.approx(expected.high), "seeds": 3, "over": "seeds",
    }  # fmt: skip


def test_the_gap_of_one_seed_has_the_interval_of_resampled_sentences():
    chosen = np.random.default_rng(0)
    baseline = chosen.normal(30, 1, 4000)
    resampled = {
        "teacher": baseline + 10,
        "baseline_seed0": baseline,
        "distilled_seed0": baseline + 10 * chosen.random(4000),
    }
    found = gap(several(baseline=[30.0], distilled=[36.0]), resampled=resampled)
    assert found["closed"] == {
        "value": 0.6, "low": pytest.approx(0.025, abs=0.02), "high": pytest.approx(0.975, abs=0.02),
        "seeds": 1, "over": "sentences",
    }  # fmt: skip


def test_tests_against_another_seed_are_not_counted():
    found = several(baseline=[30.0, 29.0], distilled=[31.0])
    del found["test_sets"]["test"]["scores"]["baseline_seed1"]
    test = {"system": "distilled_seed0", "metric": "BLEU", "difference": 1.0}
    found["test_sets"]["test"]["comparisons"] = [
        test | {"baseline": "baseline_seed0", "p_value": 0.01}, test | {"baseline": "baseline_seed1", "p_value": 0.9}
    ]  # fmt: skip
    assert verdicts(found) == ["distilled beats the baseline of its size: +1.00 BLEU (seed 0 alone, p = 0.0100)."]


def test_a_resample_in_which_the_teacher_loses_moves_no_end_of_the_interval_to_the_other_side():
    baseline = np.zeros(1000)
    teacher, student = np.full(1000, 10.0), np.full(1000, 5.0)
    teacher[:20], student[:20] = -0.1, 4.0  # 2 % of them
    resampled = {"teacher": teacher, "baseline_seed0": baseline, "distilled_seed0": student}
    closed = gap(several(baseline=[30.0], distilled=[35.0]), resampled=resampled)["closed"]
    assert (closed["low"], closed["high"]) == pytest.approx((0.5, 0.5))
    teacher[:30], student[:30] = (
        -0.1,
        4.0,
    )  # 3 %, in which the student is beyond the teacher and not behind the baseline
    closed = gap(several(baseline=[30.0], distilled=[35.0]), resampled=resampled)["closed"]
    assert closed["low"] == pytest.approx(0.5) and closed["high"] > 100


@pytest.mark.parametrize(("p_value", "difference"), [(0.05, 1.0), (0.001, -1.0)])
def test_no_gap_is_closed_where_the_teacher_is_not_better_by_more_than_chance(p_value, difference):
    found = gap(several(baseline=[30.0], distilled=[35.0]), p_value, difference)
    assert found["closed"] is None and found["reason"] == "teacher is not better than baseline by more than chance"


def test_a_difference_that_was_not_tested_is_not_called_chance():
    found = several(baseline=[30.0], distilled=[35.0])
    found["test_sets"]["test"]["comparisons"] = []
    closed = gaps_closed(found, "test", "BLEU", {})["distilled"]
    assert (
        closed["closed"] is None and closed["reason"] == "the difference between teacher and baseline was not tested"
    )


def test_no_gap_is_closed_where_nothing_alike_is_there():
    found = several(baseline=[30.0], distilled=[35.0])
    found["systems"]["distilled_seed0"]["parameters"] = 99
    assert gap(found)["reason"] == "no baseline of its size and seed"
    found = several(baseline=[30.0], distilled=[35.0])
    for name, steps in (("baseline_seed0", 10), ("distilled_seed0", 20)):
        found["systems"][name]["training"] = {"steps": steps}
    assert gap(found)["reason"] == "other training than baseline (20 steps against 10)"
    found = several(baseline=[30.0], distilled=[35.0])
    for name in ("baseline_seed0", "distilled_seed0"):
        found["systems"][name]["engine"] = "ctranslate2"
    assert gap(found)["reason"] == (
        "the teacher was not evaluated in this engine and precision, or not with this beam size"
    )
    found["systems"]["teacher"]["role"] = "baseline"
    assert gaps_closed(found, "test", "BLEU", {}) == {}


def test_a_teacher_of_hugging_face_is_searched_as_students_are():
    found = several(baseline=[30.0], distilled=[35.0])
    found["systems"]["teacher"]["engine"] = "hugging_face"
    assert gap(found)["closed"]["value"] == pytest.approx(0.5)
    assert ("teacher", "baseline_seed0") in compared_pairs(found["systems"], [], {})
    found["systems"]["teacher"]["precision"] = "bfloat16"
    assert gap(found)["teacher"] is None
    assert ("teacher", "baseline_seed0") not in compared_pairs(found["systems"], [], {})


@pytest.mark.parametrize("sign", [1, -1], ids=["teacher_against_baseline", "baseline_against_teacher"])
def test_an_export_closes_the_gap_between_exports(sign):
    found = several(baseline=[30.0], distilled=[35.0])
    for name, score in (("teacher", 38.0), ("baseline_seed0", 28.0), ("distilled_seed0", 30.5)):
        export = f"{name}_int8"
        system = found["systems"][name]
        found["systems"][export] = system | {
            "engine": "ctranslate2",
            "group": f"{system['group']}_int8",
            "same_model_as": name,
        }
        found["test_sets"]["test"]["scores"][export] = {"BLEU": {"value": score}}
    comparison = {"metric": "BLEU", "difference": sign * 1.0, "p_value": 0.001}
    pairs = [("teacher", "baseline_seed0"), ("teacher_int8", "baseline_seed0_int8")]
    found["test_sets"]["test"]["comparisons"] = [
        comparison | dict(zip(("system", "baseline"), pair[::sign])) for pair in pairs
    ]
    resampled = {name: [score["BLEU"]["value"]] * 10 for name, score in found["test_sets"]["test"]["scores"].items()}
    gaps = gaps_closed(found, "test", "BLEU", resampled)
    assert {group: gap["closed"]["value"] for group, gap in gaps.items()} == {"distilled": 0.5, "distilled_int8": 0.25}
    assert gaps["distilled_int8"]["teacher"] == "teacher_int8"
    assert len(verdicts(found)) == 1  # none of the export


def test_an_interval_over_seeds_is_students_and_one_over_sentences_the_central_part():
    values = [1.0, 2.0, 4.0]
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    found = interval(values, np.zeros(3))
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    assert interval([3.0, 1.0], np.zeros(3)) == {"value": 2, "low": 1, "high": 3, "seeds": 2, "over": "both seeds"}
    found = interval([7.0], np.arange(1001))
    assert (found["value"], found["low"], found["high"]) == pytest.approx((7.0, 25.0, 975.0))
    assert not math.isinf(found["high"])


@pytest.mark.parametrize(
    ("mine", "theirs", "differences"),
    [
        ({0: 3.0, 1: 5.0}, {1: 4.0, 0: 1.0, 2: 9.0}, [1.0, 2.0]),
        ({0: 3.0, 1: 5.0}, {None: 1.0}, [2.0, 4.0]),
        ({None: 9.0}, {0: 3.0, 1: 5.0}, [6.0, 4.0]),
        ({None: 9.0}, {None: 3.0}, [6.0]),
        ({0: 3.0}, {1: 4.0}, []),
        ({0: 3.0}, {}, []),
        ({}, {None: 3.0}, []),
    ],
)
def test_a_group_without_seeds_is_compared_with_every_seed(mine, theirs, differences):
    assert seed_differences(mine, theirs) == differences
