"""Passes tensors from the models to the losses within one training step.

A model registers tensors under names, in its role. A loss reads tensors by role and name. Models and losses do not
know each other. Each step of each DistillationModelPT has its own registry, so no tensor outlives its step, and two
distillations in one process do not share tensors.
"""

import inspect
from collections.abc import Collection
from enum import StrEnum
from typing import TypeAlias

from torch import Tensor, nn

from nemo_distill.losses.projection import Distributions

# A tensor, one per layer, or a source of log_probs.
Registered: TypeAlias = Tensor | list[Tensor] | Distributions
LOG_PROBS = "log_probs"
PROJECTION = "projection"  # `fused_losses` reads this name instead of log_probs


class Role(StrEnum):
    """The role of a model in a distillation step."""

    TEACHER = "teacher"
    STUDENT = "student"


def consumed_tensors(loss: nn.Module) -> dict[str, tuple[Role, str]]:
    """Maps each tensor argument of the loss's `forward` to the role and name of the tensor that it reads."""
    arguments = inspect.signature(loss.forward).parameters
    return {
        f"{role}_{argument}": (role, name)
        for argument, name in loss.consumes.items()
        for role in Role
        if f"{role}_{argument}" in arguments
    }


class DistillationRegistry:
    """Holds the tensors of one training step by role and name, and the masks of their valid positions.

    Args:
        wanted: roles and names of the tensors that the losses read. Other tensors are not kept.
        temperature: models that register log-probabilities divide their logits by it before the softmax.
    """

    def __init__(self, wanted: Collection[tuple[Role, str]], temperature: float = 1.0):
        self.wanted = frozenset(wanted)
        self.temperature = temperature
        self._tensors: dict[tuple[Role, str], Registered] = {}
        self._masks: dict[str, Tensor] = {}
        # (B, T), true where the teacher has a distribution; None: everywhere.
        self.pairs: Tensor | None = None

    def register(self, role: Role, name: str, tensor: Registered) -> None:
        """Keeps `tensor` if a loss reads `name` from `role`.

        Raises:
            RuntimeError: if the role has already registered this name in this step.
        """
        if (role, name) not in self.wanted:
            return
        if (role, name) in self._tensors:
            raise RuntimeError(
                f"The {role.value} registered '{name}' twice in one step; each forward registers it once."
            )
        self._tensors[role, name] = tensor

    def register_mask(self, name: str, mask: Tensor) -> None:
        """Sets the mask of the tensors called `name`, for both roles. It may hold the weight of each position."""
        self._masks[name] = mask

    def register_pairs(self, pairs: Tensor) -> None:
        """Leaves out of the losses on distributions the positions where `pairs` (B, T) is false."""
        self.pairs = pairs if self.pairs is None else self.pairs & pairs

    def get(self, role: Role, name: str) -> Registered:
        """Returns the tensor that `role` registered as `name`.

        Raises:
            KeyError: if there is none. The message lists the registered names.
        """
        if (role, name) not in self._tensors:
            found = sorted(found_name for found_role, found_name in self._tensors if found_role is role)
            raise KeyError(f"The {role.value} did not register '{name}'; it registered {found}.")
        return self._tensors[role, name]

    def has(self, role: Role, name: str) -> bool:
        """True if `role` has registered something as `name`."""
        return (role, name) in self._tensors

    def mask(self, name: str) -> Tensor | None:
        """Returns the mask of the tensors called `name`, or None if every position counts."""
        mask = self._masks.get(name)
        if name != LOG_PROBS or self.pairs is None:
            return mask
        return self.pairs if mask is None else mask * self.pairs
