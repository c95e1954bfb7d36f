"""What teacher and student hand over in one training step.

The registry is the meeting point of models and losses. A model registers tensors under names, in the role that it
plays; a loss reads those names. Neither knows the other. Each step of each DistillationModelPT has a registry of its
own: nothing outlives the step, and two distillations in one process never see each other's tensors.
"""

import inspect
from collections.abc import Collection
from enum import StrEnum
from typing import TypeAlias

from torch import Tensor, nn

from nemo_distill.losses.fused import Teacher
from nemo_distill.losses.projection import Projection

# One tensor, one for each layer, or what gives log_probs.
Registered: TypeAlias = Tensor | list[Tensor] | Projection | Teacher
PROJECTION = "projection"  # the name of what `fused_losses` reads in place of log_probs


class Role(StrEnum):
    """The part that a model plays in a distillation step."""

    TEACHER = "teacher"
    STUDENT = "student"


def consumed_tensors(loss: nn.Module) -> dict[str, tuple[Role, str]]:
    """Returns the tensor arguments of a loss's forward, each with the role and the name of what it takes."""
    arguments = inspect.signature(loss.forward).parameters
    return {
        f"{role}_{argument}": (role, name)
        for argument, name in loss.consumes.items()
        for role in Role
        if f"{role}_{argument}" in arguments
    }


class DistillationRegistry:
    """Tensors of one training step, by role and name, and the masks that say which of their positions count.

    Args:
        wanted: the roles and names of what some loss takes. Everything else is dropped at the door.
        temperature: divides logits before their softmax, for models that register log-probabilities.
    """

    def __init__(self, wanted: Collection[tuple[Role, str]], temperature: float = 1.0):
        self.wanted = frozenset(wanted)
        self.temperature = temperature
        self._tensors: dict[tuple[Role, str], Registered] = {}
        self._masks: dict[str, Tensor] = {}

    def register(self, role: Role, name: str, tensor: Registered) -> None:
        """Keeps `tensor` if a loss wants `name` of `role`.

        Raises:
            RuntimeError: if the role has registered the name in this step already; the earlier tensor would be lost.
        """
        if (role, name) not in self.wanted:
            return
        if (role, name) in self._tensors:
            raise RuntimeError(
                f"The {role.value} registered '{name}' twice in one step; each forward registers it once."
            )
        self._tensors[role, name] = tensor

    def register_mask(self, name: str, mask: Tensor) -> None:
        """Sets which positions of the tensors called `name` count, for both roles."""
        self._masks[name] = mask

    def get(self, role: Role, name: str) -> Registered:
        """Returns what `role` registered as `name`.

        Raises:
            KeyError: if it registered nothing of that name; the message lists what it did register.
        """
        if (role, name) not in self._tensors:
            found = sorted(found_name for found_role, found_name in self._tensors if found_role is role)
            raise KeyError(f"The {role.value} registered no '{name}'; it registered {found}.")
        return self._tensors[role, name]

    def has(self, role: Role, name: str) -> bool:
        """True if `role` has registered something as `name`."""
        return (role, name) in self._tensors

    def mask(self, name: str) -> Tensor | None:
        """Returns the mask of the tensors called `name`, or None where every position counts."""
        return self._masks.get(name)
