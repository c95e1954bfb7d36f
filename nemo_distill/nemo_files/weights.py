"""Keeps weights that are not finite out of files and out of work."""

from collections.abc import Iterable

import torch
from torch import Tensor

from nemo_distill.config.errors import NotFiniteError


def not_finite(named_tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Returns the names of those tensors that hold NaN or infinity."""
    return [name for name, tensor in named_tensors if tensor.is_floating_point() and not tensor.isfinite().all()]


def check_weights(module: torch.nn.Module, whose: str) -> None:
    """Refuses a model whose weights hold NaN or infinity.

    Args:
        module: the model.
        whose: what the sentence begins with, such as `the student`.

    Raises:
        NotFiniteError: that names the first such weight.
    """
    if bad := not_finite(module.named_parameters()):
        more = f" and in {len(bad) - 1} more" if len(bad) > 1 else ""
        raise NotFiniteError(f"{whose} has NaN or infinity in '{bad[0]}'{more}")
