"""Starts a student from layers of its teacher, as DistilBERT does (Sanh et al. 2019, section 3).

What can be copied is decided from the two configs, before NeMo is imported; what was copied is recorded in the
student's config.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from nemo_distill.losses.layer_map import layer_pairs
from nemo_distill.models.distillation_section import Initialization

SIDES = ("encoder", "decoder")
# What NeMo takes for a key that a stack's config leaves out.
NEMO_DEFAULTS = {
    "library": "nemo",
    "hidden_act": "relu",
    "num_token_types": 2,
    "max_sequence_length": 512,
    "mask_future": True,  # of an encoder; a decoder does not ask
}
# A copied layer means something else where one of these differs.
SAME_IN_A_STACK = (
    "hidden_size",
    "inner_size",
    "num_attention_heads",
    "hidden_act",
    "pre_ln",
    "pre_ln_final_layer_norm",
    "learn_positional_encodings",
    "mask_future",
    "library",
    "arch",
)
SAME_IN_EMBEDDINGS = ("hidden_size", "learn_positional_encodings", "num_token_types")
# Of whole stacks, whose every weight is copied. The length is that of a table of positions, also of fixed ones.
SAME_IN_WHOLE_STACKS = ("num_layers", "max_sequence_length", "num_token_types", *SAME_IN_A_STACK)


def copied_layers(side: str, rule: str | Sequence[int] | None, num_student: int, num_teacher: int) -> list[int]:
    """Returns the teacher's layer, counted from 1, that each of the student's starts from; [] copies none.

    Args:
        side: `encoder` or `decoder`, for the sentence of an error.
        rule: `uniform`: every n-th, the last included; `first`; `last`; a list of as many layers as the student has;
            or None.
        num_student: layers of the student.
        num_teacher: layers of the teacher.

    Raises:
        ValueError: if the teacher has not got the layers.
    """
    if rule is None:
        return []
    if not isinstance(rule, str):
        if len(rule) != num_student or not all(1 <= layer <= num_teacher for layer in rule):
            raise ValueError(f"{side}={rule}: must be {num_student} numbers from 1 to {num_teacher}.")
        return list(rule)
    if num_student > num_teacher:
        raise ValueError(f"{side}={rule}: the student's {num_student} layers outnumber the teacher's {num_teacher}.")
    if rule == "uniform":
        return [teacher for _, teacher in layer_pairs("uniform", num_student, num_teacher)]
    skipped = num_teacher - num_student if rule == "last" else 0
    return [skipped + layer for layer in range(1, num_student + 1)]


def stack_differences(
    side: str, student: Mapping[str, Any], start: Mapping[str, Any], keys: Collection[str]
) -> Iterator[tuple[str, Any, Any]]:
    """Yields each of `keys` whose values differ, with the student's value and the other's.

    Args:
        side: `encoder` or `decoder`.
        student: the section of that side in a student's config.
        start: the section in the config of the model that its weights come from.
        keys: what is compared; a missing key has NeMo's default.
    """
    for key in keys:
        if key == "mask_future" and side == "decoder":
            continue
        if key == "pre_ln_final_layer_norm" and not (student.get("pre_ln") and start.get("pre_ln")):
            continue  # layers that end with a norm have no final one, whatever this says
        ours, theirs = (stack.get(key, NEMO_DEFAULTS.get(key)) for stack in (student, start))
        if (ours or False) != (theirs or False):
            yield key, ours, theirs


def sharing_problem(where: str, student: Mapping[str, Any], start: Mapping[str, Any]) -> list[str]:
    """Returns a sentence if a model's two matrices of embeddings would go into a student's only one.

    The other way is harmless: both of the student's matrices start as the one.

    Args:
        where: what copies the embeddings; the sentence begins with it.
        student: the student's config.
        start: the config of the model that its weights come from.
    """
    if not student.get("shared_embeddings") or start.get("shared_embeddings"):
        return []
    return [
        f"{where} copies the embeddings of encoder and decoder, which are two matrices there "
        "(shared_embeddings=false) and one in the student (model.shared_embeddings=true); set "
        "model.shared_embeddings=false."
    ]


def initialization_problems(
    initialization: Initialization, student: Mapping[str, Any], teacher: Mapping[str, Any]
) -> list[str]:
    """Returns what cannot be copied, a sentence each.

    Args:
        initialization: what is to be copied.
        student: the student's config.
        teacher: the teacher's.
    """
    problems = []
    for side in SIDES:
        rule = getattr(initialization, side)
        if rule is None and not initialization.embeddings:
            continue
        same = SAME_IN_A_STACK if rule is not None else ()
        if initialization.embeddings:
            learned = teacher[side].get("learn_positional_encodings")
            same = dict.fromkeys((*same, *SAME_IN_EMBEDDINGS, *(["max_sequence_length"] if learned else [])))
        problems += [
            f"distillation.initialization copies from the teacher's {side}, which has {key}={theirs}; "
            f"the student has {ours}."
            for key, ours, theirs in stack_differences(side, student[side], teacher[side], same)
        ]
        try:
            copied_layers(side, rule, student[side].get("num_layers"), teacher[side].get("num_layers"))
        except ValueError as error:
            problems.append(f"distillation.initialization.{error}")
    if initialization.embeddings:
        problems += sharing_problem("distillation.initialization.embeddings=true", student, teacher)
    return problems


def initialize_from_teacher(student: Any, teacher: Any, initialization: Initialization) -> dict[str, Any]:
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
        layers = copied_layers(side, getattr(initialization, side), len(stack.layers), len(teacher_stack.layers))
        for layer, number in zip(stack.layers, layers):
            layer.load_state_dict(teacher_stack.layers[number - 1].state_dict())
        if layers and stack.final_layer_norm is not None and teacher_stack.final_layer_norm is not None:
            stack.final_layer_norm.load_state_dict(teacher_stack.final_layer_norm.state_dict())
        if initialization.embeddings:
            _copy_embeddings(ours.embedding, theirs.embedding)
        record[side] = layers
    if initialization.embeddings:
        student.log_softmax.load_state_dict(teacher.log_softmax.state_dict())
    return record | {"embeddings": initialization.embeddings}


def _copy_embeddings(ours: Any, theirs: Any) -> None:
    """Copies all but fixed positions, whose table may have another length."""
    kept = {name: value for name, value in theirs.state_dict().items() if not name.endswith("pos_enc")}
    different = ours.load_state_dict(kept, strict=False)
    left_out = [name for name in (*different.missing_keys, *different.unexpected_keys) if not name.endswith("pos_enc")]
    if left_out:
        raise RuntimeError(f"The embeddings of teacher and student differ in {', '.join(left_out)}.")
