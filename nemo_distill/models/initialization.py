"""What a student takes of its teacher's weights: copies of layers, or the whole encoder.

Layers are copied like in DistilBERT (Sanh et al. 2019, section 3); those of a wider teacher are pruned. A shared
encoder is frozen and runs once for both models: a deep encoder with a shallow decoder translates as well as a balanced
model and faster (Kasai et al. 2021), because decoding time is spent in the decoder.

The two configs determine what can be taken, so this is checked before NeMo is imported. The student's config records
what was taken.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from nemo_distill.losses.layer_map import layer_pairs
from nemo_distill.models.distillation_section import Initialization, TranslationDistillation, distillation_losses
from nemo_distill.models.pruning import KeptWidth, copy_layer, copy_norm, kept_width
from nemo_distill.nemo_files.model_kinds import SIDES, is_hugging_face_encoder

COPIED, SHARED = "model.distillation.initialization", "model.distillation.share_encoder"
WORDS = re.compile(r"token_embedding\.weight$|layer0\.(weight|bias)$")  # weights with a row for each word
# NeMo's defaults for missing keys of a stack's config. A stack is an encoder or a decoder.
NEMO_DEFAULTS = {
    "library": "nemo",
    "hidden_act": "relu",
    "num_token_types": 2,
    "max_sequence_length": 512,
    "mask_future": True,  # for encoders; decoders ignore the key
}
# Layers can be copied only between stacks with the same values of these keys.
EQUAL_STACK_KEYS = """
hidden_size inner_size num_attention_heads hidden_act pre_ln pre_ln_final_layer_norm learn_positional_encodings
mask_future library arch
""".split()
PRUNED_KEYS = ("hidden_size", "inner_size", "num_attention_heads")  # may differ if the width is pruned
EQUAL_EMBEDDING_KEYS = ("hidden_size", "learn_positional_encodings", "num_token_types")
# For copying whole stacks. `max_sequence_length` is the size of the position table, learned or fixed.
EQUAL_WHOLE_STACK_KEYS = ("num_layers", "max_sequence_length", "num_token_types", *EQUAL_STACK_KEYS)


def copied_layers(side: str, rule: str | Sequence[int] | None, num_student: int, num_teacher: int) -> list[int]:
    """Returns the teacher's layer, counted from 1, that each of the student's starts from; [] copies none.

    Args:
        side: `encoder` or `decoder`, for the sentence of an error.
        rule: `uniform`: every n-th, the last included; `first`; `last`; a list of as many layers as the student has;
            or None.
        num_student: layers of the student.
        num_teacher: layers of the teacher.

    Raises:
        ValueError: if the teacher does not have these layers.
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
    """Yields each key whose values differ, with the student's value and the other model's.

    Args:
        side: `encoder` or `decoder`.
        student: the section of that side in the student's config.
        start: the same section in the config of the model whose weights are copied.
        keys: the keys to compare. Missing keys have NeMo's defaults.
    """
    for key in keys:
        if key == "mask_future" and side == "decoder":
            continue
        if key == "pre_ln_final_layer_norm" and not (student.get("pre_ln") and start.get("pre_ln")):
            continue  # the key has no effect unless layers begin with a norm
        ours, theirs = (stack.get(key, NEMO_DEFAULTS.get(key)) for stack in (student, start))
        if (ours or False) != (theirs or False):
            yield key, ours, theirs


def sharing_problem(where: str, student: Mapping[str, Any], start: Mapping[str, Any]) -> list[str]:
    """Returns a sentence if two embedding matrices would be copied into a student that has only one.

    The opposite case is harmless: both of the student's matrices then start with the same weights.

    Args:
        where: the key of the option that copies the embeddings, for the message.
        student: the student's config.
        start: the config of the model whose weights are copied.
    """
    if not student.get("shared_embeddings") or start.get("shared_embeddings"):
        return []
    return [
        f"{where} copies the embeddings of encoder and decoder, which are two matrices in the source model "
        "(shared_embeddings=false) but one in the student (model.shared_embeddings=true); set "
        "model.shared_embeddings=false."
    ]


def initialization_problems(
    initialization: Initialization, student: Mapping[str, Any], teacher: Mapping[str, Any]
) -> list[str]:
    """Returns a sentence for each part that cannot be copied.

    Args:
        initialization: the parts to copy.
        student: the student's config.
        teacher: the teacher's config.
    """
    if any(map(is_hugging_face_encoder, (student, teacher))):
        return [f"{COPIED} copies parts of NeMo's own encoders, not of encoder.library=huggingface."]
    problems, prunes = [], initialization.prune_width
    for side in SIDES:
        rule = getattr(initialization, side)
        if rule is None and not initialization.embeddings:
            continue
        same: Collection[str] = EQUAL_STACK_KEYS if rule is not None else ()
        if initialization.embeddings:
            learned = teacher[side].get("learn_positional_encodings")
            same = dict.fromkeys((*same, *EQUAL_EMBEDDING_KEYS, *(["max_sequence_length"] if learned else [])))
        ours, theirs = (model[side].get("hidden_size") for model in (student, teacher))
        too_wide = isinstance(ours, int) and isinstance(theirs, int) and ours > theirs
        hint = "" if too_wide else "; to prune the teacher's, set prune_width=true"
        problems += [
            f"{COPIED} copies from the teacher's {side}, which has {key}={theirs}; "
            f"the student has {ours}{hint if key in PRUNED_KEYS else ''}."
            for key, ours, theirs in stack_differences(side, student[side], teacher[side], same)
            if not (prunes and key in PRUNED_KEYS)
        ]
        if prunes and too_wide:
            problems.append(
                f"{COPIED}.prune_width=true needs a teacher that is at least as wide, but its {side} has "
                f"hidden_size={theirs}; the student has {ours}."
            )
        layers = [model[side].get("num_layers") for model in (student, teacher)]
        try:
            if all(isinstance(number, int) for number in layers):  # another check reports what is no number
                copied_layers(side, rule, *layers)
        except ValueError as error:
            problems.append(f"{COPIED}.{error}")
    if initialization.embeddings:
        problems += sharing_problem(f"{COPIED}.embeddings=true", student, teacher)
    return problems


def initialize_from_teacher(student: Any, teacher: Any, initialization: Initialization) -> dict[str, Any]:
    """Copies layers, final norms, embeddings and output layer from teacher to student, both `MTEncDecModel`.

    Returns:
        A record of what was copied: the teacher layer of each student layer, by side, whether the embeddings and the
        output layer were copied, and the teacher's sizes if they were pruned.

    Raises:
        RuntimeError: if the shapes of a part differ.
    """
    record: dict[str, Any] = {}
    # NeMo names the stack inside the module after its side again: `model.encoder.encoder`.
    stacks = {side: [getattr(getattr(model, side), side) for model in (student, teacher)] for side in SIDES}
    for side, (ours, theirs) in stacks.items():
        record[side] = copied_layers(side, getattr(initialization, side), len(ours.layers), len(theirs.layers))
    copied = {side: [stacks[side][1].layers[number - 1] for number in record[side]] for side in SIDES}
    width = kept_width(student, teacher, [layer for layers in copied.values() for layer in layers])
    for side, (ours, theirs) in stacks.items():
        for own, layer in zip(ours.layers, copied[side]):
            copy_layer(own, layer, width)
        if copied[side] and ours.final_layer_norm is not None and theirs.final_layer_norm is not None:
            copy_norm(ours.final_layer_norm, theirs.final_layer_norm, width)
        if initialization.embeddings:
            _copy_words(getattr(student, side).embedding, getattr(teacher, side).embedding, width)
    if initialization.embeddings:
        _copy_words(student.log_softmax, teacher.log_softmax, width)
    record["embeddings"] = initialization.embeddings
    pruned = {side: {key: teacher.cfg[side].get(key) for key in PRUNED_KEYS} for side in SIDES}
    different = any(student.cfg[side].get(key) != value for side in SIDES for key, value in pruned[side].items())
    return record | ({"pruned_from": pruned} if different else {})


def _copy_words(ours: Any, theirs: Any, width: KeptWidth) -> None:
    """Copies an embedding or an output layer, except fixed position tables, whose lengths may differ.

    The teacher may have language tags at the end of its words that the student lacks.
    """
    own = ours.state_dict()
    kept = {name: value for name, value in theirs.state_dict().items() if not name.endswith("pos_enc")}
    for name, value in kept.items():
        if "layer_norm" in name:
            value = width.written(value)
        elif value.dim() == 2:
            value = width.read(value)
        kept[name] = value[: len(own[name])] if WORDS.search(name) and name in own else value
    different = ours.load_state_dict(kept, strict=False)
    left_out = [name for name in (*different.missing_keys, *different.unexpected_keys) if not name.endswith("pos_enc")]
    if left_out:
        raise RuntimeError(f"The embeddings of teacher and student differ in {', '.join(left_out)}.")


def shared_encoder_problems(
    model: Mapping[str, Any], distillation: TranslationDistillation, teachers: int, teacher: Mapping[str, Any]
) -> list[str]:
    """Returns the reasons why a student cannot share its teacher's encoder, one sentence each.

    Args:
        model: the student's config, resolved.
        distillation: its `distillation` section.
        teachers: the number of teachers.
        teacher: the config of the first teacher.
    """
    if is_hugging_face_encoder(model):
        return [f"{SHARED} needs NeMo's own encoder, but model.encoder.library=huggingface."]
    problems = [
        f"{SHARED}: model.encoder has {key}={ours}, the teacher has {theirs}; they must be the same."
        for key, ours, theirs in stack_differences(
            "encoder", model["encoder"], teacher["encoder"], EQUAL_WHOLE_STACK_KEYS
        )
    ]
    if model.get("shared_embeddings"):
        problems.append(f"{SHARED} would also freeze the decoder's embeddings; set model.shared_embeddings=false.")
    if teachers > 1:
        problems.append(f"{SHARED} needs a single teacher, but there are {teachers}.")
    if not distillation.noise.is_none:
        problems.append(f"{SHARED}: with model.distillation.noise, student and teacher would read different sources.")
    for key in ("teacher_cache", "teacher_precision", "distilbert_initialization"):
        if value := getattr(distillation, key):
            problems.append(f"{SHARED} cannot be combined with model.distillation.{key}={value}.")
    return problems + [
        f"{SHARED}: student and teacher have the same encoder, so model.distillation.loss.{name}, which compares "
        f"their '{value}', has no effect."
        for name, node in distillation_losses(distillation).items()
        for value in node.values()
        if node.get("weight", 1) != 0 and isinstance(value, str) and value.startswith("encoder")
    ]


def share_encoder(student: Any, teacher: Any) -> None:
    """Copies the encoder weights of the teacher to the student, both `MTEncDecModel`, and freezes them."""
    student.encoder.load_state_dict(teacher.encoder.state_dict())
    student.encoder.requires_grad_(False)
