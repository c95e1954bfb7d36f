"""Which system to ship."""

import numpy as np
import pytest

from nemo_distill.evaluation.verdict import verdict, verdict_sentences
from tests.evaluation.fakes import RECORD, SET, SYSTEM

SENTENCES = 200


def evaluation(**systems):
    """An evaluation of a teacher of 40 BLEU, and of systems with a score, sentences a second and changed keys."""
    rows = {"teacher": (40.0, 10.0, {"parameters": 1000, "bytes": 4000})} | systems
    record = SYSTEM | {"precision": "float32", "beam_size": 4, "parameters": 100, "bytes": 400}
    return RECORD | {
        "systems": {
            name: record
            | {"group": name.partition("_seed")[0], "speed": speed and {"sentences_per_second": speed}}
            | more
            for name, (_, speed, more) in rows.items()
        },
        "test_sets": {
            "test": SET | {"scores": {name: {"BLEU": {"value": score}} for name, (score, _, _) in rows.items()}}
        },
    }


def shipped(found, noise=0.5):
    """The verdict, where the systems' scores on resamples vary independently."""
    chosen = np.random.default_rng(0)
    scores = found["test_sets"]["test"]["scores"]
    resampled = {
        name: one["BLEU"]["value"] + noise * chosen.standard_normal(SENTENCES) for name, one in scores.items()
    }
    return verdict(found, "BLEU", {"test": resampled})


@pytest.mark.parametrize(
    ("systems", "ship", "because"),
    [
        ({"a": (38.0, 50.0, {})}, "a", "only"),
        ({"a": (38.0, 50.0, {}), "b": (35.0, 99.0, {})}, "a", "first"),  # b is worse by more than chance
        ({"a": (38.0, 50.0, {}), "b": (37.9, 99.0, {})}, "b", "first"),
        ({"a": (38.0, 95.0, {}), "b": (37.9, 99.0, {})}, "a", "best"),
        ({"a": (38.0, None, {"bytes": 900}), "b": (37.9, None, {"bytes": 500})}, "b", "first"),
        ({"a": (38.0, 50.0, {}), "google": (50.0, None, {"engine": "text", "bytes": None})}, "a", "only"),
        ({"a": (38.0, 50.0, {}), "int8": (40.0, 99.0, {"same_model_as": "teacher"})}, "a", "only"),
        ({"a": (38.0, 9.0, {})}, "teacher", "teacher"),
        ({"a": (40.0, 9.0, {})}, "a", "only"),  # no worse, within chance
        ({"a": (38.0, 10.0, {})}, "teacher", "teacher"),  # as fast as the teacher
        ({"a": (38.0, None, {"bytes": 5000})}, "teacher", "teacher"),
        (
            {"a": (38.0, 50.0, {"bytes": 900}), "b": (37.9, None, {"bytes": 500})},
            "b",
            "first",
        ),  # by size: b has no speed
    ],
)
def test_the_fastest_of_those_that_are_as_good_as_the_best_is_shipped(systems, ship, because):
    found = shipped(evaluation(**systems))
    assert (found["ship"], found["because"]) == (ship, because)


@pytest.mark.parametrize("first", ["alone", "student"])
def test_without_a_teacher_all_systems_are_candidates_and_the_first_one_too(first):
    systems = {
        "alone": (38.0, 99.0, {"role": "baseline"}),
        "student": (36.0, 50.0, {"role": "distilled", "bytes": 800}),
    }
    found = evaluation(**dict(sorted(systems.items(), key=lambda item: item[0] != first)))
    del found["systems"]["teacher"], found["test_sets"]["test"]["scores"]["teacher"]
    found["verdict"] = shipped(found, noise=0.1)
    first, second, third = verdict_sentences(found)
    assert first.startswith("Ship alone (PyTorch float32): of the students that are as good as the best one")
    assert second.startswith("It has +2.00 BLEU against student (95 %: +1.")
    assert "alone is 2.0 times smaller on disk and 2.0 times as fast" in third


def test_without_a_teacher_a_system_is_compared_with_one_that_runs_as_it_does():
    found = evaluation(
        teacher=(38.0, 20.0, {"role": "baseline"}),
        student=(38.4, 20.0, {"role": "distilled"}),
        alone_int8=(37.9, 90.0, int8("teacher", role="baseline")),
        student_int8=(38.3, 90.0, int8("student", role="distilled")),
    )
    chosen = shipped(found)
    assert chosen["ship"] == "student_int8" and list(chosen["differences"]) == ["alone_int8"]


def test_a_single_system_is_no_choice():
    assert shipped(evaluation(teacher=(38.0, 20.0, {"role": "baseline"}))) is None


def test_a_teacher_alone_is_not_shipped():
    assert shipped(evaluation()) is None and not list(verdict_sentences(evaluation()))


def int8(origin, **more):
    return {"engine": "ctranslate2", "precision": "int8", "same_model_as": origin, **more}


def test_the_verdict_has_three_sentences_each_of_like_with_like():
    found = evaluation(
        teacher_int8=(39.0, 30.0, int8("teacher", bytes=1000)),
        student=(38.5, 50.0, {}),
        student_int8=(38.4, 90.0, int8("student", bytes=100)),
    )
    found["test_sets"]["test"]["gaps"] = {
        "student_int8": {"metric": "BLEU", "teacher": "teacher_int8", "baseline": "alone_int8", "reason": None,
                         "closed": {"value": 0.61, "low": 0.48, "high": 0.75, "seeds": 1, "over": "sentences"}},
    }  # fmt: skip
    found["verdict"] = shipped(found, noise=0.1)
    first, second, third = verdict_sentences(found)
    assert first.startswith("Ship student_int8 (CTranslate2 int8): ")
    assert second.startswith("It has -0.60 BLEU against teacher_int8 (95 %: -0.")
    assert " and -1.60 BLEU against teacher (95 %: -1." in second
    assert second.endswith("; it closes 61 % (48 to 75 %) of the gap between alone_int8 and teacher_int8.")
    assert third == (
        "Compared with teacher_int8 (both CTranslate2 int8), student_int8 is 10.0 times smaller on disk and 3.0 times as "
        "fast."
    )


def test_a_teacher_that_is_better_and_costs_no_more_is_shipped_and_compared_with_the_best_choice_besides_it():
    found = evaluation(
        teacher_int8=(39.0, 30.0, int8("teacher", bytes=100)),
        a_seed0=(38.2, 5.0, {"seed": 0}),
        a_seed1=(38.2, 5.0, {"seed": 1}),
        a_int8_seed0=(38.1, 20.0, int8("a_seed0", seed=0, bytes=200)),
        a_int8_seed1=(38.3, 10.0, int8("a_seed1", seed=1, bytes=200)),
    )
    found["verdict"] = shipped(found, noise=0.1)
    found["verdict"]["differences"]["a_int8"] |= {"low": 0.6, "high": 1.0}
    assert list(verdict_sentences(found)) == [
        "Ship teacher_int8 (CTranslate2 int8): a_int8, the best choice among the others, translates worse than this teacher "
        "and is not faster.",
        "It has +0.80 BLEU against a_int8 (95 %: +0.60 to +1.00, over sentences).",
        "Compared with a_int8 (both CTranslate2 int8), teacher_int8 is 2.0 times smaller on disk and 2.0 times as fast.",
    ]


def test_seeds_are_averaged_and_what_was_not_measured_is_said():
    found = evaluation(a_seed0=(38.0, None, {"seed": 0}), a_seed1=(39.0, None, {"seed": 1}))
    found["verdict"] = shipped(found)
    _, second, third = verdict_sentences(found)
    assert "It has -1.50 BLEU against teacher (-2.00 and -1.00 with the two seeds)" in second
    assert third.endswith("10.0 times smaller on disk. Its speed was not measured.")


def test_fewer_edits_are_better():
    found = evaluation(a=(38.0, 50.0, {}), b=(45.0, 99.0, {}))
    for scores in found["test_sets"]["test"]["scores"].values():
        scores["TER"] = scores.pop("BLEU")
    resampled = {name: np.full(10, one["TER"]["value"]) for name, one in found["test_sets"]["test"]["scores"].items()}
    chosen = verdict(found, "TER", {"test": resampled})
    difference = chosen["differences"]["teacher"]
    assert chosen["ship"] == "a" and [difference[key] for key in ("value", "low", "high")] == [-2.0] * 3


def test_a_verdict_by_a_metric_that_selected_labels_says_so_and_names_another():
    found = evaluation(student=(38.5, 50.0, {"selected_by": ["bleu"]}), alone=(36.0, 50.0, {}))
    for of_system in found["test_sets"]["test"]["scores"].values():
        of_system["chrF"] = {"value": 60.0}
    found["verdict"] = shipped(found, noise=0.1)
    _, second, _ = verdict_sentences(found)
    assert second.startswith("It has -1.50 BLEU† against teacher (")
    assert second.endswith(". † BLEU also selected the labels that student learned from: see whether chrF agrees.")
    found["systems"]["student"]["selected_by"] = ["chrF"]
    _, second, _ = verdict_sentences(found)
    assert "†" not in second
