import itertools
import random

import numpy as np
import pytest
from sacrebleu.significance import PairedTest

from nemo_distill.metrics.scores import METRICS, build_metric, corpus_score
from nemo_distill.metrics.significance import (
    RESAMPLES,
    SignificanceSettings,
    compare,
    group_p_value,
    pairs_with,
    resample,
)

REFERENCES = [f"the dog number {index} sees the red house of the man" for index in range(60)]
WORSE = [line.replace("red house", "house") if index % 2 else line for index, line in enumerate(REFERENCES)]
SYSTEMS = {"good": REFERENCES, "bad": WORSE, "same": list(REFERENCES)}


def compared(systems, references, settings):
    """The comparisons with the baselines of the settings; by default with the first system."""
    pairs = pairs_with(settings.baselines or [next(iter(systems))], list(systems))
    return list(compare(systems, references, settings, pairs))


@pytest.mark.parametrize("test", ["bootstrap", "approximate_randomization"])
def test_a_real_difference_is_told_from_none(test):
    found = {one["system"]: one for one in compared(SYSTEMS, REFERENCES, SignificanceSettings(test=test, samples=200))}
    assert set(found) == {"bad", "same"}
    assert found["bad"]["difference"] < -1 and found["bad"]["samples"] == 200
    assert found["bad"]["p_value"] == pytest.approx(1 / 201)  # the observed difference counts among the trials
    assert found["same"]["difference"] == 0 and found["same"]["p_value"] > 0.5


def broken(lines, word="red"):
    """The references, without a word in some of the lines."""
    return [line.replace(f" {word}", "") if index in lines else line for index, line in enumerate(REFERENCES)]


def equals(lines, seed):
    """Two systems that differ in as many lines, each as likely to be the worse one there."""
    chosen = random.Random(seed)
    worse = set(chosen.sample(range(len(REFERENCES)), lines))
    mine = {line for line in worse if chosen.random() < 0.5}
    return {"a": broken(mine), "b": broken(worse - mine)}


def p_value(translations, references=REFERENCES, **settings):
    (found,) = compared(translations, references, SignificanceSettings(**settings))
    return found["p_value"]


def enumerated(mine, theirs, references, metric):
    """The share of all ways to swap lines whose difference is as large as the observed one."""

    def difference(swapped):
        first, second = ([pair[swap != side] for pair, swap in zip(zip(mine, theirs), swapped)] for side in (0, 1))
        return abs(corpus_score(metric, first, references).value - corpus_score(metric, second, references).value)

    observed = difference([False] * len(mine))
    swaps = list(itertools.product([False, True], repeat=len(mine)))
    return sum(difference(swapped) >= observed - 1e-9 for swapped in swaps) / len(swaps)


@pytest.mark.parametrize(("lines", "exact"), [(0, 1.0), (1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625)])
@pytest.mark.parametrize("test", ["bootstrap", "approximate_randomization"])
def test_systems_that_differ_in_few_lines_are_not_told_apart(lines, exact, test):
    worse = {"good": REFERENCES, "bad": broken(range(lines))}
    found = p_value(worse, test=test, samples=2000)
    assert found == exact if test == "approximate_randomization" else found >= exact


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("seed", range(2))
def test_the_p_value_is_that_of_all_ways_to_swap_lines(metric, seed, flores_model):
    chosen = random.Random(seed)
    references = REFERENCES[:6]
    mine, theirs = ([line.replace(chosen.choice(line.split()), "x") for line in references] for _ in range(2))
    exact = enumerated(mine, theirs, references, metric)
    settings = {"metrics": [metric], "references": references}
    assert p_value({"theirs": theirs, "mine": mine}, **settings) == pytest.approx(exact)


def test_random_trials_come_near_to_all_ways_to_swap_lines():
    systems = {"good": broken([0]), "bad": broken(range(2, 12), "dog")}
    exact, trials = (p_value(systems, samples=samples) for samples in (2**11, 2**11 - 1))
    assert exact != trials and trials == pytest.approx(exact, abs=5 * (exact / 2**11) ** 0.5)


@pytest.mark.parametrize(
    ("test", "level", "lines"),
    [*(("approximate_randomization", 0.05, lines) for lines in (1, 4, 8, 60)), ("bootstrap", 0.08, 6)],
)
def test_equals_are_told_apart_no_more_often_than_the_level_says(test, level, lines):
    runs = 60
    p_values = np.array([p_value(equals(lines, seed), test=test, samples=260) for seed in range(runs)])
    chance = 2.6 * (level * (1 - level) / runs) ** 0.5  # a true level is exceeded one time in 200
    assert (p_values < 0.05).mean() <= level + chance
    if test == "approximate_randomization":
        assert (p_values < 0.2).mean() <= 0.2 + 2.6 * (0.16 / runs) ** 0.5


def test_on_many_lines_p_values_are_sacrebleus_but_for_chance():
    chosen = random.Random(0)
    references = [" ".join(str(chosen.randrange(50)) for _ in range(chosen.randint(5, 30))) for _ in range(60)]
    systems = {name: [line.replace(chosen.choice(line.split()), name) for line in references] for name in "ab"}
    test = PairedTest(list(systems.items()), {"BLEU": build_metric("BLEU")}, [references], "ar", 2000)
    theirs = next(column for key, column in test()[1].items() if key != "System")[1].p_value
    assert p_value(systems, references, samples=2000) == pytest.approx(theirs, abs=0.05)


def test_any_two_systems_are_compared_once():
    settings = SignificanceSettings(samples=20, metrics=["BLEU", "chrF"], baselines=["bad", "good"])
    found = compared(SYSTEMS, REFERENCES, settings)
    assert [(one["baseline"], one["system"], one["metric"]) for one in found] == [
        ("bad", "good", "BLEU"), ("bad", "same", "BLEU"), ("good", "same", "BLEU"),
        ("bad", "good", "chrF"), ("bad", "same", "chrF"), ("good", "same", "chrF"),
    ]  # fmt: skip
    assert found[0]["difference"] > 0 and found[3]["difference"] > 0


def test_one_system_alone_is_compared_with_nothing():
    assert compared({"good": REFERENCES}, REFERENCES, SignificanceSettings()) == []


def test_all_systems_are_scored_on_the_same_resamples():
    found = resample(SYSTEMS, REFERENCES, "BLEU")
    assert {len(scores) for scores in found.values()} == {RESAMPLES}
    assert found["good"] == found["same"]
    differences = np.array(found["good"]) - np.array(found["bad"])
    corpora = [corpus_score("BLEU", SYSTEMS[name], REFERENCES).value for name in ("good", "bad")]
    assert differences.mean() == pytest.approx(corpora[0] - corpora[1], abs=1) and (differences > 0).all()


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [([(3.0, 0.01), (2.0, 0.04)], 0.04), ([(3.0, 0.01)], 0.01), ([(3.0, 0.01), (-3.0, 0.01)], 1.0)],
)
def test_a_group_differs_as_much_as_its_worst_seed_does_and_in_one_direction(seeds, expected):
    assert group_p_value([{"difference": one, "p_value": p_value} for one, p_value in seeds]) == expected
