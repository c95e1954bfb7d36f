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
        ("every", 2, 4, "has layers='every'; allowed are uniform, skip, last or a list of pairs"),
        ("uniform", 5, 4, r"the student has more layers \(5\) than the teacher \(4\)"),
        ("skip", 1, 4, "yields no pair for a student with 1 layers"),
        ([[3, 1]], 2, 4, "pairs student layer 3 with teacher layer 1; the student has 2 layers and the teacher 4"),
        ([[1, 5]], 2, 4, "pairs student layer 1 with teacher layer 5"),
    ],
)
def test_what_cannot_be_paired_is_told(layers, student, teacher, sentence):
    with pytest.raises(ValueError, match=sentence.replace("'", ".")):
        layer_pairs(layers, student, teacher)
