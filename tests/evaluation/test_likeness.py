"""Which systems are compared with which, and what is said of their sizes and speeds."""

import pytest

from nemo_distill.evaluation.likeness import compared_with, factor_sentence, kind_in_words, teachers

TEACHER = {"engine": "nemo_distill", "precision": "float32", "beam_size": 4, "bytes": 400}
INT8 = {"engine": "ctranslate2", "precision": "int8"}
GREEDY = {"beam_size": 1}


def systems(**more):
    """A teacher, its export, and systems that differ from the teacher in some keys."""
    found = {"teacher": TEACHER, "teacher_int8": TEACHER | INT8 | {"same_model_as": "teacher", "bytes": 100}}
    return found | {name: TEACHER | keys for name, keys in more.items()}


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
