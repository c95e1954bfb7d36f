"""Pairs the layers of student and teacher."""

from collections.abc import Sequence
from typing import Any

LAYER_MAPS = ("uniform", "skip", "last")
# A list of [student layer, teacher layer] counted from 1, or the name of a rule.
LayerMap = str | Sequence[Sequence[int]]


def layer_pairs(layers: LayerMap, num_student: int, num_teacher: int) -> list[tuple[int, int]]:
    """Returns the pairs of student layer and teacher layer, both counted from 1.

    Args:
        layers: `uniform`: every n-th layer of the teacher, including the last (Sanh et al. 2019, section 3).
            `skip`: like `uniform` without the last layer, which the loss on the output already trains (PKD-Skip, Sun
            et al. 2019, section 3). `last`: the teacher's last layers, except the very last (PKD-Last, ibid.).
            Alternatively, a list of pairs.
        num_student: number of student layers.
        num_teacher: number of teacher layers.

    Raises:
        ValueError: if the rule is unknown or yields no pair, or if a pair names a layer that does not exist.
    """
    pairs = _pairs_by_rule(layers, num_student, num_teacher) if isinstance(layers, str) else _given_pairs(layers)
    for student, teacher in pairs:
        if not (0 <= student <= num_student and 0 <= teacher <= num_teacher):
            raise ValueError(
                f"layers={layers}: pairs layer {student} with the teacher's {teacher}; the student has {num_student} "
                f"layers, the teacher {num_teacher}, counted from 1."
            )
    if not pairs:
        raise ValueError(f"layers={layers}: leaves no pair for a student of {num_student} layers.")
    return pairs


def _given_pairs(layers: Any) -> list[tuple[int, int]]:
    if not isinstance(layers, Sequence) or not all(_is_pair(pair) for pair in layers):
        raise ValueError(f"layers={layers}: must be one of {', '.join(LAYER_MAPS)} or a list of pairs of numbers.")
    return [(student, teacher) for student, teacher in layers]


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(type(layer) is int for layer in value)


def _pairs_by_rule(rule: str, num_student: int, num_teacher: int) -> list[tuple[int, int]]:
    if rule not in LAYER_MAPS:
        raise ValueError(f"layers={rule}: must be one of {', '.join(LAYER_MAPS)} or a list of pairs of numbers.")
    if num_student > num_teacher:
        raise ValueError(
            f"layers={rule}: the student's {num_student} layers outnumber the teacher's {num_teacher}; give pairs."
        )
    if rule == "last":
        return [(layer, num_teacher - num_student + layer) for layer in range(1, num_student)]
    uniform = [(layer, int(layer * num_teacher / num_student + 0.5)) for layer in range(1, num_student + 1)]
    return uniform if rule == "uniform" else uniform[:-1]
