"""Checks and sets up a student that uses its teacher's encoder. The encoder is frozen and runs once for both.

A deep encoder with a shallow decoder translates as well as a balanced model and faster (Kasai et al. 2021). Decoding
time is spent in the decoder, so only the decoder needs to be distilled.
"""

from collections.abc import Mapping
from typing import Any

from nemo_distill.models.distillation_section import TranslationDistillation, distillation_losses
from nemo_distill.models.initialization import EQUAL_WHOLE_STACK_KEYS, stack_differences

SWITCH = "distillation.share_encoder"


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
    problems = [
        f"{SWITCH}: model.encoder has {key}={ours}, the teacher has {theirs}; they must be the same."
        for key, ours, theirs in stack_differences(
            "encoder", model["encoder"], teacher["encoder"], EQUAL_WHOLE_STACK_KEYS
        )
    ]
    if model.get("shared_embeddings"):
        problems.append(f"{SWITCH} would also freeze the decoder's embeddings; set model.shared_embeddings=false.")
    if teachers > 1:
        problems.append(f"{SWITCH} needs a single teacher, but there are {teachers}.")
    if not distillation.noise.is_none:
        problems.append(f"{SWITCH}: with distillation.noise, student and teacher would read different sources.")
    for key in ("teacher_cache", "teacher_precision", "distilbert_initialization"):
        if value := getattr(distillation, key):
            problems.append(f"{SWITCH} cannot be combined with distillation.{key}={value}.")
    return problems + [
        f"{SWITCH}: student and teacher have the same encoder, so distillation.loss.{name}, which compares their "
        f"'{value}', has no effect."
        for name, node in distillation_losses(distillation).items()
        for value in node.values()
        if node.get("weight", 1) != 0 and isinstance(value, str) and value.startswith("encoder")
    ]


def share_encoder(student: Any, teacher: Any) -> None:
    """Copies the encoder weights of the teacher to the student, both `MTEncDecModel`, and freezes them."""
    student.encoder.load_state_dict(teacher.encoder.state_dict())
    student.encoder.requires_grad_(False)
