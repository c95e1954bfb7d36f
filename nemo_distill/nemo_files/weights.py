"""Rejects weights that are no numbers, without importing NeMo."""

from collections.abc import Iterable

import torch
from torch import Tensor

from nemo_distill.config.errors import NotFiniteError


def not_finite(named_tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Returns the names of the tensors that contain NaN or infinity."""
    return [name for name, tensor in named_tensors if tensor.is_floating_point() and not tensor.isfinite().all()]


def check_weights(module: torch.nn.Module, whose: str) -> None:
    """Rejects a model whose weights contain NaN or infinity.

    Args:
        whose: the beginning of the message, such as `the student`.

    Raises:
        NotFiniteError: if there is such a weight. The message names the first one.
    """
    if bad := not_finite(module.named_parameters()):
        more = f" and in {len(bad) - 1} more" if len(bad) > 1 else ""
        raise NotFiniteError(f"{whose} has NaN or infinity in '{bad[0]}'{more}")
