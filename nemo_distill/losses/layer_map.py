"""Which layer of the teacher each layer of the student learns from."""

from collections.abc import Sequence
from typing import Any

LAYER_MAPS = ("uniform", "skip", "last")
# Pairs of layer numbers, student's and teacher's, from 1; or the name of a rule.
LayerMap = str | Sequence[Sequence[int]]


def layer_pairs(layers: LayerMap, num_student: int, num_teacher: int) -> list[tuple[int, int]]:
    """Returns pairs of a student's and a teacher's layer, both counted from 1.

    Args:
        layers: `uniform`: every n-th layer of the teacher, the last one included (Sanh et al. 2019, section 3);
            `skip`: the same without the last, which the loss on the output reaches anyway (PKD-Skip of Sun et al.
            2019, section 3); `last`: the teacher's last layers but the very last (PKD-Last, ibid.); or the pairs
            themselves.
        num_student: layers of the student.
        num_teacher: layers of the teacher.

    Raises:
        ValueError: if there is no such rule, a rule leaves no pair, or a pair names a layer that does not exist.
    """
    by_rule = isinstance(layers, str)
    pairs = _pairs_by_rule(layers, num_student, num_teacher) if by_rule else _given_pairs(layers)
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
    pairs = [tuple(pair) if isinstance(pair, Sequence) else () for pair in layers] if _is_list(layers) else [()]
    if not all(len(pair) == 2 and all(type(layer) is int for layer in pair) for pair in pairs):
        raise ValueError(f"layers={layers}: must be one of {', '.join(LAYER_MAPS)} or a list of pairs of numbers.")
    return pairs


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


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
