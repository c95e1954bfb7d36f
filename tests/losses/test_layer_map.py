import re

import pytest

from nemo_distill.losses.layer_map import layer_pairs


@pytest.mark.parametrize(
    ("layers", "student", "teacher", "expected"),
    [
        ("uniform", 6, 12, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)]),
        ("skip", 6, 12, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]),
        ("last", 6, 12, [(1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]),
        ("uniform", 1, 6, [(1, 6)]),
        ("uniform", 4, 6, [(1, 2), (2, 3), (3, 5), (4, 6)]),
        ("uniform", 3, 3, [(1, 1), (2, 2), (3, 3)]),
        ([[1, 5], [2, 6]], 2, 6, [(1, 5), (2, 6)]),
        ([[0, 0]], 2, 6, [(0, 0)]),
    ],
)
def test_layers_are_paired_as_published(layers, student, teacher, expected):
    assert layer_pairs(layers, student, teacher) == expected


@pytest.mark.parametrize(
    ("layers", "student", "teacher", "sentence"),
    [
        ("every", 2, 4, "layers=every: must be one of uniform, skip, last"),
        ("uniform", 5, 4, "the student's 5 layers outnumber the teacher's 4"),
        ("skip", 1, 4, "leaves no pair for a student of 1 layers"),
        (
            [[3, 1]],
            2,
            4,
            "layers=[[3, 1]]: pairs layer 3 with the teacher's 1; the student has 2 layers, the teacher 4",
        ),
        ([[1, 5]], 2, 4, "layers=[[1, 5]]: pairs layer 1 with the teacher's 5"),
    ],
)
def test_what_cannot_be_paired_is_told(layers, student, teacher, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        layer_pairs(layers, student, teacher)
