"""Which systems are compared with which, and what is said of their sizes and speeds."""

import pytest

from nemo_distill.evaluation import likeness
from nemo_distill.evaluation.likeness import (
    compared_pairs,
    compared_with,
    factor_sentence,
    kind_in_words,
    members,
    teachers,
    trained_otherwise,
)
from tests.evaluation.fakes import SYSTEM

TEACHER = {"engine": "nemo_distill", "precision": "float32", "beam_size": 4, "bytes": 400}
INT8 = {"engine": "ctranslate2", "precision": "int8"}
GREEDY = {"beam_size": 1}


def systems(**more):
    """A teacher, its export, and systems that differ from the teacher in some keys."""
    found = {"teacher": TEACHER, "teacher_int8": TEACHER | INT8 | {"same_model_as": "teacher", "bytes": 100}}
    found |= {name: TEACHER | keys for name, keys in more.items()}
    return {name: SYSTEM | {"group": name} | system for name, system in found.items()}


@pytest.mark.parametrize(
    ("student", "against"),
    [
        ({}, "teacher"),
        (INT8, "teacher_int8"),
        (INT8 | GREEDY, "teacher_int8"),  # in the same engine, but with another search
        (GREEDY, "teacher"),
        ({"engine": "hugging_face"}, "teacher"),
        ({"engine": "text", "precision": None}, None),
    ],
)
def test_a_system_is_compared_with_the_teacher_that_runs_most_like_it(student, against):
    assert compared_with(systems(student=student), "student") == against


def test_a_variant_of_the_teacher_is_a_teacher():
    found = systems(greedy=GREEDY | {"same_model_as": "teacher"}, student=GREEDY)
    assert teachers(found) == ["teacher", "teacher_int8", "greedy"]
    assert compared_with(found, "student") == "greedy"
    assert kind_in_words(found, "student") == "PyTorch float32, greedy"


@pytest.mark.parametrize(("beam_size", "compared"), [(4, True), (1, False)])
def test_the_teacher_is_compared_with_baselines_that_search_as_it_does(beam_size, compared):
    found = systems(other={}, baseline={"role": "baseline", "beam_size": beam_size})
    pairs = compared_pairs(found, ["other"], {"teacher": "teacher_int8"})
    assert (("teacher", "baseline") in pairs) is compared


def test_a_distilled_system_is_compared_with_the_baselines_of_its_size_and_seed():
    sizes = {"student_seed0": 1, "alone_seed0": 1, "alone_seed1": 1, "wide_seed0": 2}
    found = systems(
        **{
            name: {
                "parameters": size,
                "group": name.partition("_seed")[0],
                "seed": int(name[-1]),
                "role": "distilled" if name == "student_seed0" else "baseline",
            }
            for name, size in sizes.items()
        }
    )
    pairs = compared_pairs(found, ["teacher"], {"teacher": "teacher_int8"})
    assert [pair for pair in pairs if "teacher" not in pair] == [("student_seed0", "alone_seed0")]


def test_groups_of_one_size_that_were_trained_otherwise_are_found_once_for_all(monkeypatch):
    looked = []
    monkeypatch.setattr(likeness, "members", lambda *arguments: looked.append(arguments) or members(*arguments))
    groups = {
        "a": (10, {}), "b": (20, {}), "c": (10, {}), "unknown": (None, {}), "other_size": (20, {"parameters": 2}),
        "no_size": (20, {"parameters": None}), "int8": (20, INT8),
    }  # fmt: skip
    found = {
        f"{group}_seed{seed}": SYSTEM
        | TEACHER
        | {"parameters": 1, "group": group, "seed": seed, "training": {"steps": steps}}
        | keys
        for group, (steps, keys) in groups.items()
        for seed in range(2)
    }
    assert trained_otherwise(found) == dict.fromkeys(groups, "") | {"a": "b", "b": "a, c", "c": "b"}
    assert len(looked) <= 4 * len(groups)  # not for each pair


@pytest.mark.parametrize(
    ("size", "said"),
    [(40, "10.0 times smaller on disk"), (401, "as large on disk"), (800, "2.0 times larger on disk")],
)
def test_sizes_are_said_in_words(size, said):
    found = systems(student={"bytes": size})
    assert factor_sentence(found, "student", "teacher") == (
        f"Compared with teacher (both PyTorch float32), student is {said}."
    )
    assert factor_sentence(systems(student={"bytes": None}), "student", "teacher") is None
