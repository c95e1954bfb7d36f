"""Contrasts of scores over seeds."""

import math
import random

import pytest
from contrasts import FAILS, HOLDS, OPEN, POWER, Contrast, joint_verdict, seeds_needed
from scipy.stats import ttest_rel

SCORES = {
    "a": {0: 10.0, 1: 12.0, 2: 14.5},
    "b": {0: 20.0, 1: 21.0, 2: 25.0, 3: 60.0},
    "one": {0: 1.0},
    "others": {7: 1.0},
    "teacher": {None: 30.0},
}


@pytest.mark.parametrize(
    ("plus", "minus", "differences"),
    [
        (["b"], ["a"], [10.0, 9.0, 10.5]),
        (["b", "a"], ["a", "a"], [10.0, 9.0, 10.5]),
        (["teacher"], ["a"], [20.0, 18.0, 15.5]),
        (["a"], ["one"], [9.0]),
        (["a"], ["others"], []),
        (["a"], ["not trained"], []),
    ],
)
def test_differences_are_taken_seed_by_seed(plus, minus, differences):
    assert Contrast(plus, minus).by_seed(SCORES) == differences


@pytest.mark.parametrize(("two_sided", "confidence"), [(False, 0.9), (True, 0.95)])
def test_the_margin_is_that_of_a_paired_t_test(two_sided, confidence):
    of_seeds = {group: [SCORES[group][seed] for seed in range(3)] for group in "ab"}
    interval = ttest_rel(of_seeds["b"], of_seeds["a"]).confidence_interval(confidence)
    contrast = Contrast(["b"], ["a"])
    assert contrast.estimate(SCORES) == pytest.approx((interval.high + interval.low) / 2)
    assert contrast.margin(SCORES, two_sided) == pytest.approx((interval.high - interval.low) / 2)


def test_what_a_seed_does_to_all_groups_leaves_no_margin():
    moved = {"a": {0: 1.0, 1: 5.0}, "b": {0: 2.0, 1: 6.0}}
    assert Contrast(["b"], ["a"]).margin(moved) == 0


def test_rounding_decides_nothing():
    scores = {"a": {0: 0.1, 1: 0.1}, "b": {0: 0.2, 1: 0.2}, "c": {0: 0.3, 1: 0.3}}
    contrast = Contrast(["a", "b"], ["c"])
    assert contrast.estimate(scores) != 0 and contrast.verdict(scores) == OPEN


def simulated(effect, groups, seeds):
    """Scores of `a` and of `b`, ..., whose means are lower by `effect`; seeds move all, and each a little more."""
    for run in range(2000):
        chosen = random.Random(run)
        of_seed = [chosen.gauss(30, 2) for _ in range(seeds)]
        means = dict.fromkeys("abcd"[:groups], 0.0) | {"a": effect}
        yield {
            name: {n: base + mean + chosen.gauss(0, 1) for n, base in enumerate(of_seed)}
            for name, mean in means.items()
        }


@pytest.mark.parametrize("seeds", [2, 6])
def test_a_true_difference_is_outside_the_margin_no_more_often_than_said(seeds):
    contrast = Contrast(["a"], ["b"])
    outside = [
        abs(contrast.estimate(one) - 1) > contrast.margin(one, two_sided=True) for one in simulated(1, 2, seeds)
    ]
    assert sum(outside) / len(outside) == pytest.approx(0.05, abs=0.015)


def test_a_claim_that_is_not_true_holds_no_more_often_than_said():
    verdicts = [[Contrast(["a"], [other], above=1).verdict(one) for other in "bc"] for one in simulated(1, 3, 3)]
    shares = [sum(one[0] == verdict for one in verdicts) / len(verdicts) for verdict in (HOLDS, FAILS)]
    assert shares == pytest.approx([0.05, 0.05], abs=0.015)
    assert sum(joint_verdict(one) == HOLDS for one in verdicts) / len(verdicts) <= 0.065


@pytest.mark.parametrize("minus", ["one", "others", "not trained"])
def test_fewer_than_two_seeds_decide_nothing(minus):
    contrast = Contrast(["b"], [minus])
    assert contrast.margin(SCORES) == math.inf and contrast.verdict(SCORES) == OPEN


@pytest.mark.parametrize(
    ("plus", "minus", "above", "verdict"),
    [
        (["b"], ["a"], 0.0, HOLDS),
        (["a"], ["b"], 0.0, FAILS),
        (["b"], ["a"], 10.0, OPEN),
        (["b"], ["a"], 20.0, FAILS),
        (["teacher", "a"], ["b", "b"], -20.0, HOLDS),
    ],
)
def test_a_verdict_needs_more_than_chance(plus, minus, above, verdict):
    assert Contrast(plus, minus, above).verdict(SCORES) == verdict


def test_a_claim_holds_if_all_of_its_contrasts_do():
    assert joint_verdict([HOLDS, HOLDS]) == HOLDS
    assert joint_verdict([HOLDS, OPEN]) == OPEN
    assert joint_verdict([OPEN, FAILS, HOLDS]) == FAILS


@pytest.mark.parametrize(
    ("values", "excess", "needed"),
    [
        ([1.0], 0.5, None),
        ([], 0.5, None),
        ([1.0, 1.0], 0.5, 2),
        # One-sided t tests of one sample at 5 % with a power of 80 %: 27 for half a standard deviation, 8 for a whole.
        ([-1.0, 0.0, 1.0], 0.5, 27),
        ([9.0, 10.0, 11.0], 1.0, 8),
        ([0.0, 2.0, 4.0], 1.0, 27),
    ],
)
def test_the_seeds_needed_are_those_of_the_tables(values, excess, needed):
    assert seeds_needed(values, excess) == needed


def test_the_seeds_needed_find_a_true_difference_as_often_as_said():
    needed = seeds_needed([-1.0, 1.0], 0.75)  # simulated differences have the same deviation
    verdicts = [Contrast(["a"], ["b"]).verdict(one) for one in simulated(0.75, 2, needed)]
    assert verdicts.count(HOLDS) / len(verdicts) == pytest.approx(POWER, abs=0.03)
