"""Starts a student from layers of its teacher, as DistilBERT does (Sanh et al. 2019, section 3).

What can be copied is decided from the two configs, before NeMo is imported; what was copied is recorded in the
student's config.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nemo_distill.losses.layer_map import layer_pairs

SIDES = ("encoder", "decoder")
RULES = ("uniform", "first", "last")
# A copied layer means something else where one of these differs.
SAME_IN_A_STACK = (
    "hidden_size",
    "inner_size",
    "num_attention_heads",
    "hidden_act",
    "pre_ln",
    "learn_positional_encodings",
)
SAME_IN_EMBEDDINGS = ("hidden_size", "learn_positional_encodings")
FALSE = (None, False)


def copied_layers(rule: str | Sequence[int] | None, num_student: int, num_teacher: int) -> list[int]:
    """Returns the teacher's layer, counted from 1, that each of the student's starts from; [] copies none.

    Args:
        rule: `uniform`: every n-th, the last included; `first`; `last`; a list of as many layers as the student has;
            or None.
        num_student: layers of the student.
        num_teacher: layers of the teacher.

    Raises:
        ValueError: if there is no such rule, or the teacher has not got the layers.
    """
    if rule is None:
        return []
    if not isinstance(rule, str):
        layers = list(rule) if isinstance(rule, Sequence) else rule
        if not isinstance(layers, list) or not all(type(layer) is int for layer in layers):
            raise ValueError(f"has {rule!r}; allowed are {', '.join(RULES)}, a list of layers and null")
        if len(layers) != num_student or not all(1 <= layer <= num_teacher for layer in layers):
            raise ValueError(f"has {layers}; {num_student} numbers from 1 to {num_teacher} are needed")
        return layers
    if rule not in RULES:
        raise ValueError(f"has '{rule}'; allowed are {', '.join(RULES)}, a list of layers and null")
    if num_student > num_teacher:
        raise ValueError(f"has '{rule}', but the student's {num_student} layers outnumber the teacher's {num_teacher}")
    if rule == "uniform":
        return [teacher for _, teacher in layer_pairs("uniform", num_student, num_teacher)]
    skipped = num_teacher - num_student if rule == "last" else 0
    return [skipped + layer for layer in range(1, num_student + 1)]


def initialization_problems(
    initialization: Mapping[str, Any], student: Mapping[str, Any], teacher: Mapping[str, Any]
) -> list[str]:
    """Returns what cannot be copied, a sentence each.

    Args:
        initialization: `encoder` and `decoder`, rules for the layers, and `embeddings`, true or false.
        student: the student's config.
        teacher: the teacher's.
    """
    known = (*SIDES, "embeddings")
    problems = [
        f"distillation.initialization has the unknown key '{key}'; known are {', '.join(known)}."
        for key in initialization
        if key not in known
    ]
    for side in SIDES:
        rule = initialization.get(side)
        if rule is None and not initialization.get("embeddings"):
            continue
        same = SAME_IN_A_STACK if rule is not None else SAME_IN_EMBEDDINGS
        if initialization.get("embeddings") and teacher[side].get("learn_positional_encodings"):
            same = (*same, "max_sequence_length")
        for key in same:
            ours, theirs = student[side].get(key), teacher[side].get(key)
            if ours != theirs and not (ours in FALSE and theirs in FALSE):
                problems.append(
                    f"distillation.initialization copies from the teacher's {side}, which has {key}={theirs}; "
                    f"the student has {ours}."
                )
        try:
            copied_layers(rule, student[side].get("num_layers"), teacher[side].get("num_layers"))
        except ValueError as error:
            problems.append(f"distillation.initialization.{side} {error}.")
    return problems


def initialize_from_teacher(student: Any, teacher: Any, initialization: Mapping[str, Any]) -> dict[str, Any]:
    """Copies layers, final norms, embeddings and head from teacher to student, both `MTEncDecModel`.

    Returns:
        A record of what was copied: the teacher's layer for each of the student's, by side, and whether the embeddings
        and the head were.

    Raises:
        RuntimeError: if a copied part has another shape.
    """
    record: dict[str, Any] = {}
    for side in SIDES:
        ours, theirs = getattr(student, side), getattr(teacher, side)
        # NeMo calls the stack of layers by the side's name once more.
        stack, teacher_stack = getattr(ours, side), getattr(theirs, side)
        layers = copied_layers(initialization.get(side), len(stack.layers), len(teacher_stack.layers))
        for layer, number in zip(stack.layers, layers):
            layer.load_state_dict(teacher_stack.layers[number - 1].state_dict())
        if layers and stack.final_layer_norm is not None and teacher_stack.final_layer_norm is not None:
            stack.final_layer_norm.load_state_dict(teacher_stack.final_layer_norm.state_dict())
        if initialization.get("embeddings"):
            _copy_embeddings(ours.embedding, theirs.embedding)
        record[side] = layers
    if initialization.get("embeddings"):
        student.log_softmax.load_state_dict(teacher.log_softmax.state_dict())
    return record | {"embeddings": bool(initialization.get("embeddings"))}


def _copy_embeddings(ours: Any, theirs: Any) -> None:
    """Copies all but fixed positions, whose table may have another length."""
    kept = {name: value for name, value in theirs.state_dict().items() if not name.endswith("pos_enc")}
    different = ours.load_state_dict(kept, strict=False)
    left_out = [name for name in (*different.missing_keys, *different.unexpected_keys) if not name.endswith("pos_enc")]
    if left_out:
        raise RuntimeError(f"The embeddings of teacher and student differ in {', '.join(left_out)}.")
