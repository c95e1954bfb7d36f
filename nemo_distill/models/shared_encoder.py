"""A student that keeps its teacher's encoder: frozen, and run once for both.

Deep encoders and shallow decoders translate as well as even depths and faster (Kasai et al. 2021), and an encoder that
has been learned need not be learned again: what is distilled is the decoder, whose steps are what decoding waits for.
"""

from collections.abc import Mapping
from typing import Any

from nemo_distill.models.distillation_section import TranslationDistillation, distillation_losses
from nemo_distill.models.initialization import SAME_IN_WHOLE_STACKS, stack_differences

SWITCH = "distillation.share_encoder"


def shared_encoder_problems(
    model: Mapping[str, Any], distillation: TranslationDistillation, teachers: int, teacher: Mapping[str, Any]
) -> list[str]:
    """Returns what keeps a student from sharing its teacher's encoder, a sentence each.

    Args:
        model: the student's config, resolved.
        distillation: its section `distillation`.
        teachers: how many there are.
        teacher: the first one's config.
    """
    problems = [
        f"{SWITCH}: model.encoder has {key}={ours}, the teacher's {theirs}."
        for key, ours, theirs in stack_differences(
            "encoder", model["encoder"], teacher["encoder"], SAME_IN_WHOLE_STACKS
        )
    ]
    if model.get("shared_embeddings"):
        problems.append(f"{SWITCH} would freeze the decoder's words too; set model.shared_embeddings=false.")
    if teachers > 1:
        problems.append(f"{SWITCH}: of {teachers} teachers none is the one to share with.")
    if not distillation.noise.is_none:
        problems.append(f"{SWITCH}: with distillation.noise the student would read another source than its teacher.")
    for key in ("teacher_cache", "teacher_precision", "distilbert_initialization"):
        if value := getattr(distillation, key):
            problems.append(f"{SWITCH} does not go with distillation.{key}={value}.")
    return problems + [
        f"{SWITCH}: the encoders are one, so that distillation.loss.{name}, which compares their '{value}', has "
        "nothing to teach."
        for name, node in distillation_losses(distillation).items()
        for value in node.values()
        if node.get("weight", 1) != 0 and isinstance(value, str) and value.startswith("encoder")
    ]


def share_encoder(student: Any, teacher: Any) -> None:
    """Gives a student, an `MTEncDecModel`, the weights of its teacher's encoder, and freezes them."""
    student.encoder.load_state_dict(teacher.encoder.state_dict())
    student.encoder.requires_grad_(False)
