"""The losses of one training step: each by itself, or several in one pass over the vocabulary."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nemo_distill.core.loss_terms import LossTerm
from nemo_distill.core.registry import PROJECTION, DistillationRegistry, Role, consumed_tensors
from nemo_distill.losses.fused import fused_losses
from nemo_distill.losses.labels import SmoothedLabels

STUDENT_LOSS = "student"  # the name of the student's own training loss among the terms


class StepLosses:
    """The terms whose weight is not 0 at an optimizer step.

    Args:
        terms: all of the training's.
        step: the optimizer step.
        fuse: let those that can read the projection do so, in place of log-probabilities.
    """

    def __init__(self, terms: Sequence[LossTerm], step: int, fuse: bool):
        self.step, self.fuse = step, fuse
        self.terms = [term for term in terms if term.weight.at(step)]
        self.fused = [term for term in self.terms if fuse and getattr(term.loss, "consumes_projection", False)]
        self.plain = [term for term in self.terms if term not in self.fused]

    def wanted(self) -> set[tuple[Role, str]]:
        """Returns the roles and names of what the models must register."""
        wanted = {tensor for term in self.plain for tensor in consumed_tensors(term.loss).values()}
        if self.fuse:  # with or without such terms, since the student's own loss may be fused
            wanted.add((Role.STUDENT, PROJECTION))
        return wanted | {(Role.TEACHER, PROJECTION) for _ in self.fused}

    def compute(
        self, registry: DistillationRegistry, labels: SmoothedLabels | None, student_weight: float
    ) -> dict[str, Tensor]:
        """Returns the unweighted losses by name.

        Args:
            registry: with what both models registered.
            labels: what the student's own loss learns, if it shares the pass; None leaves it out.
            student_weight: of that loss.
        """
        losses = {term.name: term.loss(**_loss_inputs(term.loss, registry)) for term in self.plain}
        weights = {term.name: term.weight.at(self.step) for term in self.fused}
        if labels is not None:
            weights[STUDENT_LOSS] = student_weight
        if not weights:
            return losses
        values = fused_losses(
            registry.get(Role.STUDENT, PROJECTION),
            registry.get(Role.TEACHER, PROJECTION) if self.fused else None,
            registry.mask(PROJECTION),
            [term.loss for term in self.fused],
            list(weights.values()),
            registry.temperature,
            labels,
        )
        return losses | dict(zip(weights, values.unbind()))


def _loss_inputs(loss: nn.Module, registry: DistillationRegistry) -> dict[str, Any]:
    """A loss's keyword arguments: the tensors that it takes, their mask and, where it uses it, the temperature."""
    inputs: dict[str, Any] = {
        argument: registry.get(role, name) for argument, (role, name) in consumed_tensors(loss).items()
    }
    if getattr(loss, "uses_temperature", False):
        inputs["temperature"] = registry.temperature
    return inputs | {"mask": registry.mask(next(iter(loss.consumes.values())))}
