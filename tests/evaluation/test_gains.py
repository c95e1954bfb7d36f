"""What is said of distilled systems beside the baselines of their size."""

import pytest

from nemo_distill.evaluation.gains import gain_sentences


def evaluation(*systems):
    """An evaluation of systems: name, group, seed, role, parameters and BLEU."""
    keys = ("group", "seed", "role", "parameters")
    return {
        "systems": {name: dict(zip(keys, rest)) for name, *rest, _ in systems},
        "test_sets": {"test": {"scores": {name: {"BLEU": {"value": score}} for name, *_, score in systems}}},
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


def test_systems_without_seeds_are_compared_too():
    rows = [("a", "a", None, "baseline", 100, 30.0), ("b", "b", None, "distilled", 100, 31.0)]
    assert verdicts(evaluation(*rows)) == ["b beats the baseline of its size: +1.00 BLEU."]


def test_systems_of_unknown_size_are_not_compared():
    rows = [("a", "a", None, "baseline", None, 30.0), ("b", "b", None, "distilled", None, 31.0)]
    assert verdicts(evaluation(*rows)) == []
