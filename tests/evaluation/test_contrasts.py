"""Contrasts of mean scores over seeds."""

import math

import pytest
from scipy.stats import ttest_ind

from nemo_distill.evaluation.contrasts import FAILS, HOLDS, OPEN, Contrast, Spread, joint_verdict, pooled_spreads

SCORES = {"a": [10.0, 12.0], "b": [20.0, 20.0, 23.0], "c": [30.0]}


def test_the_spread_is_pooled_over_groups_with_their_degrees_of_freedom():
    # Squares about the means: 1 + 1 in a, 1 + 1 + 4 in b; 1 + 2 degrees of freedom.
    assert pooled_spreads(SCORES) == dict.fromkeys("abc", Spread(pytest.approx(math.sqrt(8 / 3)), 3))


def test_each_kind_has_a_spread_of_its_own_and_one_without_seeds_that_of_all():
    found = pooled_spreads(SCORES, {"a": "slim", "b": "wide", "c": "teacher"})
    overall = Spread(pytest.approx(math.sqrt(8 / 3)), 3)
    assert found == {
        "a": Spread(pytest.approx(math.sqrt(2)), 1),
        "b": Spread(pytest.approx(math.sqrt(3)), 2),
        "c": overall,
    }


def test_one_seed_each_has_no_spread_and_decides_nothing():
    scores = {"a": [10.0], "b": [20.0]}
    assert pooled_spreads(scores) == {}
    assert Contrast(["b"], ["a"]).verdict(scores, {}) == OPEN


def test_the_margin_is_students_t_times_the_standard_error():
    # The 95 % quantile of t with 3 degrees of freedom is 2.3534; variances 1/2 + 1/3 + 1 of the spread's.
    margin = Contrast(["b", "a"], ["c"]).margin(SCORES, dict.fromkeys("abc", Spread(2.0, 3)))
    assert margin == pytest.approx(2.3534 * 2 * math.sqrt(11 / 6), rel=1e-4)


def test_the_margin_across_kinds_is_that_of_welch():
    scores = {"a": [27.5, 21.0, 19.0, 23.7], "b": [27.1, 22.0, 20.8, 23.4, 24.0]}
    welch = ttest_ind(scores["b"], scores["a"], equal_var=False).confidence_interval(0.9)
    margin = Contrast(["b"], ["a"]).margin(scores, pooled_spreads(scores, {"a": 1, "b": 2}))
    assert margin == pytest.approx((welch.high - welch.low) / 2)
    welch = ttest_ind(scores["b"], scores["a"], equal_var=False).confidence_interval(0.95)
    margin = Contrast(["b"], ["a"]).margin(scores, pooled_spreads(scores, {"a": 1, "b": 2}), two_sided=True)
    assert margin == pytest.approx((welch.high - welch.low) / 2)


def test_scores_that_never_differ_leave_no_margin():
    assert Contrast(["a"], ["b"]).margin({"a": [1.0, 1.0], "b": [2.0]}, dict.fromkeys("ab", Spread(0.0, 1))) == 0


@pytest.mark.parametrize(
    ("plus", "minus", "above", "verdict"),
    [
        (["b"], ["a"], 0.0, HOLDS),
        (["a"], ["b"], 0.0, FAILS),
        (["b"], ["a"], 10.0, OPEN),
        (["b"], ["a"], 20.0, FAILS),
        (["c", "a"], ["b", "b"], -20.0, HOLDS),
    ],
)
def test_a_verdict_needs_more_than_chance(plus, minus, above, verdict):
    assert Contrast(plus, minus, above).verdict(SCORES, dict.fromkeys("abc", Spread(1.0, 30))) == verdict


def test_a_claim_holds_if_all_of_its_contrasts_do():
    assert joint_verdict([HOLDS, HOLDS]) == HOLDS
    assert joint_verdict([HOLDS, OPEN]) == OPEN
    assert joint_verdict([OPEN, FAILS, HOLDS]) == FAILS
