"""Collects tensors inside a translation model that NeMo's modules do not return."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from nemo_distill.nemo_files.model_kinds import is_hugging_face_encoder


@contextmanager
def inner_tensors(model: Any) -> Iterator[dict[str, list[Tensor]]]:
    """Within this context, collects those of them by name that a loss of the running step reads.

    Args:
        model: the `DistillableMTEncDecModel` that runs.
    """
    decoder = model.decoder.decoder.layers
    outputs = {"decoder_layers": [model.decoder.embedding, *decoder]}
    # The dropout after the softmax receives the attention probabilities as input.
    inputs = {
        "decoder_self_attention": [layer.first_sub_layer.attn_dropout for layer in decoder],
        "decoder_cross_attention": [layer.second_sub_layer.attn_dropout for layer in decoder],
    }
    if not is_hugging_face_encoder(model.cfg):
        encoder = model.encoder.encoder.layers
        outputs["encoder_layers"] = [model.encoder.embedding, *encoder]
        inputs["encoder_self_attention"] = [layer.first_sub_layer.attn_dropout for layer in encoder]
    with ExitStack() as hooks:
        inside = {}
        for name, modules in (inputs | outputs).items():
            if model.wants_distillation_tensor(name):
                inside[name] = hooks.enter_context(_capture(modules, "input" if name in inputs else "output"))
        yield inside


@contextmanager
def _capture(modules: Sequence[nn.Module], position: Literal["input", "output"]) -> Iterator[list[Tensor]]:
    """Within this context, each call of one of `modules` appends its first input or its output to the list."""
    tensors: list[Tensor] = []

    def collect(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        tensors.append(inputs[0] if position == "input" else output)

    hooks = [module.register_forward_hook(collect) for module in modules]
    try:
        yield tensors
    finally:
        for hook in hooks:
            hook.remove()
