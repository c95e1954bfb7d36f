"""What a translation model's section `distillation` may hold: its keys, its losses, the tensors that they compare."""

from collections.abc import Mapping
from typing import Any

from nemo_distill.config.known_values import COUNT
from nemo_distill.config.typed_section import build_section
from nemo_distill.core.loss_terms import Widths
from nemo_distill.nemo_files.translation_archive import SIDES
from nemo_distill.text.source_noise import SourceNoise

REGISTERED_TENSORS = (
    "log_probs",
    "projection",
    "nll",
    *(f"{side}_{what}" for side in ("encoder", "decoder") for what in ("hidden_states", "layers", "self_attention")),
    "decoder_cross_attention",
)
SOURCE_TENSORS = tuple(name for name in REGISTERED_TENSORS if name.startswith("encoder") or "cross" in name)
# Of the study's config; the rest of a `distillation` section is the core's.
STUDY_KEYS = (
    "distillation_loss_weight",
    "cosine_loss_weight",
    "distill_encoder",
    "distilbert_initialization",
    "initialization",
    "same_size_as_teacher",
    "share_encoder",
    "mix",
    "noise",
)


def distillation_losses(distillation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The loss nodes of the study's config: with `distill_encoder`, `cosine` also compares the encoders' states."""
    nodes = distillation.get("loss") or {}
    if not isinstance(nodes, Mapping):  # told by the core's check
        return nodes
    nodes = dict(nodes)
    if distillation.get("distill_encoder") and isinstance(nodes.get("cosine"), Mapping):
        states = nodes["cosine"].get("hidden_states", "decoder_hidden_states")
        nodes["cosine_encoder"] = {**nodes["cosine"], "hidden_states": states.replace("decoder", "encoder")}
    return nodes


def registered_widths(model: Mapping[str, Any]) -> Widths:
    """The widths of the hidden states and the heads of the attention maps that a model of this config registers."""
    widths: dict[str, list[int]] = {}
    for side in SIDES:
        sizes = [model[side].get(key) for key in ("hidden_size", "num_layers", "num_attention_heads")]
        if not all(COUNT.takes(size) for size in sizes):  # wrong, or of a pretrained encoder, which does not say
            return {}
        width, layers, heads = sizes
        widths |= {
            f"{side}_hidden_states": [width],
            f"{side}_layers": [width] * (layers + 1),
            f"{side}_self_attention": [heads] * layers,
        }
    return widths | {"decoder_cross_attention": widths["decoder_self_attention"]}


def noise_problems(distillation: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with the noise on the student's source, and what cannot be compared under it."""
    noise, problems = build_section(SourceNoise, distillation.get("noise") or {}, "model.distillation.noise")
    if problems or noise.is_none:
        return problems
    return [
        f"model.distillation.noise: the student reads other source tokens than its teacher, so that "
        f"distillation.loss.{name}, which compares their '{value}', has nothing to compare."
        for name, node in dict(distillation_losses(distillation)).items()
        for value in node.values()
        if node.get("weight", 1) != 0 and value in SOURCE_TENSORS
    ]
