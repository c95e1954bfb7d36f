"""Collects inner tensors that the modules of a model do not return."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn


@contextmanager
def capture(modules: Sequence[nn.Module], position: Literal["input", "output"]) -> Iterator[list[Tensor]]:
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
