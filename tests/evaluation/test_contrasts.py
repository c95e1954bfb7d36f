"""Contrasts of mean scores over seeds."""

import math

import pytest

from nemo_distill.evaluation.contrasts import FAILS, HOLDS, OPEN, Contrast, Spread, joint_verdict, pooled_spread

SCORES = {"a": [10.0, 12.0], "b": [20.0, 20.0, 23.0], "c": [30.0]}


def test_the_spread_is_pooled_over_groups_with_their_degrees_of_freedom():
    # Squares about the means: 1 + 1 in a, 1 + 1 + 4 in b; 1 + 2 degrees of freedom.
    assert pooled_spread(SCORES) == Spread(pytest.approx(math.sqrt(8 / 3)), 3)


def test_one_seed_each_has_no_spread_and_decides_nothing():
    scores = {"a": [10.0], "b": [20.0]}
    assert pooled_spread(scores) is None
    assert Contrast(["b"], ["a"]).verdict(scores, None) == OPEN


def test_the_margin_is_students_t_times_the_standard_error():
    # The 95 % quantile of t with 3 degrees of freedom is 2.3534; variances 1/2 + 1/3 + 1 of the spread's.
    margin = Contrast(["b", "a"], ["c"]).margin(SCORES, Spread(2.0, 3))
    assert margin == pytest.approx(2.3534 * 2 * math.sqrt(11 / 6), rel=1e-4)


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
    assert Contrast(plus, minus, above).verdict(SCORES, Spread(1.0, 30)) == verdict


def test_a_claim_holds_if_all_of_its_contrasts_do():
    assert joint_verdict([HOLDS, HOLDS]) == HOLDS
    assert joint_verdict([HOLDS, OPEN]) == OPEN
    assert joint_verdict([OPEN, FAILS, HOLDS]) == FAILS
