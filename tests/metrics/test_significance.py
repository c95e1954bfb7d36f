import random

import pytest

from nemo_distill.metrics.significance import SignificanceSettings, compare, group_p_value

REFERENCES = [f"the dog number {index} sees the red house of the man" for index in range(60)]
WORSE = [line.replace("red house", "house") if index % 2 else line for index, line in enumerate(REFERENCES)]
SYSTEMS = {"good": REFERENCES, "bad": WORSE, "same": list(REFERENCES)}


@pytest.mark.parametrize("test", ["bootstrap", "approximate_randomization"])
def test_a_real_difference_is_told_from_none(test):
    found = {one.system: one for one in compare(SYSTEMS, REFERENCES, SignificanceSettings(test, samples=200))}
    assert set(found) == {"bad", "same"}
    assert found["bad"].difference < -1 and found["bad"].p_value < 0.05 and found["bad"].samples == 200
    assert found["same"].difference == 0 and found["same"].p_value > 0.5


def test_systems_that_are_alike_differ_by_chance_as_often_as_the_level_says():
    def noisy(seed):
        chosen = random.Random(seed)
        return [line.replace(chosen.choice(["red", "sees", "dog"]), "x") for line in REFERENCES]

    p_values = [
        compare({"a": noisy(2 * seed), "b": noisy(2 * seed + 1)}, REFERENCES, SignificanceSettings(samples=100))
        for seed in range(60)
    ]
    p_values = [found.p_value for (found,) in p_values]
    assert sum(p_value < 0.1 for p_value in p_values) <= 12 and sum(p_value < 0.5 for p_value in p_values) in range(
        18, 43
    )


def test_any_two_systems_are_compared_once():
    settings = SignificanceSettings(samples=20, metrics=["BLEU", "chrF"], baselines=["bad", "good"])
    found = compare(SYSTEMS, REFERENCES, settings)
    assert [(one.baseline, one.system, one.metric) for one in found] == [
        ("bad", "good", "BLEU"), ("bad", "same", "BLEU"), ("bad", "good", "chrF"), ("bad", "same", "chrF"),
        ("good", "same", "BLEU"), ("good", "same", "chrF"),
    ]  # fmt: skip
    assert found[0].difference > 0 and found[2].difference > 0


def test_one_system_alone_is_compared_with_nothing():
    assert compare({"good": REFERENCES}, REFERENCES, SignificanceSettings()) == []


def test_values_that_are_not_allowed_are_told():
    problems = SignificanceSettings("t-test", samples=0, metrics=["COMET"]).problems()
    assert [problem.partition("=")[0] for problem in problems] == ["test", "samples", "metrics"]


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [([(3.0, 0.01), (2.0, 0.04)], 0.04), ([(3.0, 0.01)], 0.01), ([(3.0, 0.01), (-3.0, 0.01)], 1.0)],
)
def test_a_group_differs_as_much_as_its_worst_seed_does_and_in_one_direction(seeds, expected):
    assert group_p_value([{"difference": one, "p_value": p_value} for one, p_value in seeds]) == expected
