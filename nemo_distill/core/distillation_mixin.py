"""Makes a NeMo model distillable: as a teacher or as a student, with the same `forward`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.core.distillation_section import DistillationSection
from nemo_distill.core.loss_terms import Widths
from nemo_distill.core.registry import DistillationRegistry, Registered, Role
from nemo_distill.losses.labels import SmoothedLabels


class DistillationPass(NamedTuple):
    """One model's share of one distillation step."""

    role: Role
    registry: DistillationRegistry


Section = TypeVar("Section", bound=DistillationSection)


class NeMoHost:
    """What a mixin expects of the NeMo class that follows it among the bases; there is nothing of it at run time."""

    cfg: DictConfig
    trainer: Any
    global_rank: int
    log: Callable[..., None]
    parameters: Callable[[], Iterator[nn.Parameter]]
    training_step: Callable[[Any, int], Any]
    bfloat16: Callable[[], Any]
    _apply: Callable[[Callable[[Tensor], Tensor]], Any]


class DistillationMixin(NeMoHost, Generic[Section]):
    """Registration hooks for a `ModelPT`; put it before the NeMo class among the bases.

    A model needs no more than one line in its `forward`: `self.distillation_registration_step(name=tensor, ...)`.
    Outside distillation that line does nothing. The other methods have defaults that a model may override.
    """

    # Names that the model can register; a loss that asks for another is refused before training starts.
    distillation_tensors: ClassVar[tuple[str, ...]] = ("log_probs",)
    # The class of the section `distillation` in the model's configuration.
    distillation_section: ClassVar[type[DistillationSection]] = DistillationSection

    _distillation_pass: DistillationPass | None = None
    _log: Callable[..., None] | None = None  # of the model that trains this one

    @contextmanager
    def distillation_pass(self, role: Role, registry: DistillationRegistry) -> Iterator[None]:
        """Within this context, the model plays `role` and registers into `registry`."""
        self._distillation_pass = DistillationPass(role, registry)
        try:
            yield
        finally:
            self._distillation_pass = None

    @property
    def running_step(self) -> DistillationPass:
        """The distillation step that the model runs in.

        Raises:
            RuntimeError: if it runs in none.
        """
        if self._distillation_pass is None:
            raise RuntimeError(f"{type(self).__name__} runs outside of a distillation step")
        return self._distillation_pass

    def is_being_distilled(self) -> bool:
        """True while the model runs as teacher or student of a distillation step."""
        return self._distillation_pass is not None

    def is_student_model(self) -> bool:
        """True while the model runs as the student of a distillation step."""
        step = self._distillation_pass
        return step is not None and step.role is Role.STUDENT

    def wants_distillation_tensor(self, name: str) -> bool:
        """True if some loss of the running step takes `name` of this model; computing it would be wasted otherwise."""
        step = self._distillation_pass
        return step is not None and (step.role, name) in step.registry.wanted

    def teachers_tensor(self, name: str) -> Registered | None:
        """Returns what the teacher of the running step has registered as `name`, if `read_from_teacher` says so."""
        registry = self.running_step.registry
        return registry.get(Role.TEACHER, name) if registry.has(Role.TEACHER, name) else None

    def register_distillation_tensor(self, name: str, tensor: Tensor | list[Tensor]) -> None:
        """Hands a tensor, or one for each layer, to the losses that take `name`; does nothing where none does."""
        if self.wants_distillation_tensor(name):
            self.running_step.registry.register(self.running_step.role, name, tensor)

    def register_distillation_mask(self, name: str, mask: Tensor) -> None:
        """Says which positions of the tensors called `name` count: `mask` is true at those."""
        if self.is_being_distilled():
            self.running_step.registry.register_mask(name, mask)

    def tempered_log_probs(self, logits: Tensor, is_normalized: bool = False) -> Tensor:
        """Returns log softmax(logits / T) at the step's temperature T (Hinton et al. 2015, eq. 1).

        Args:
            logits: (..., V).
            is_normalized: they are log-probabilities, which serve as well, since a softmax ignores a constant added to
                its logits; at T = 1 they are returned as they are, unless half precision has rounded them.
        """
        temperature = self.running_step.registry.temperature
        if is_normalized and temperature == 1 and torch.finfo(logits.dtype).bits >= 32:
            return logits
        return torch.log_softmax(logits.float() / temperature, dim=-1)

    def distillation_registration_step(self, **tensors: Tensor | list[Tensor]) -> None:
        """Called by `forward`: registers each tensor under its keyword.

        `log_probs`, and `logits` under that name too, are registered as log-probabilities at the step's temperature.
        """
        for keyword, tensor in tensors.items():
            name = "log_probs" if keyword == "logits" else keyword
            if not self.wants_distillation_tensor(name):
                continue
            if name == "log_probs":
                tensor = self.tempered_log_probs(tensor, is_normalized=keyword == "log_probs")
            self.register_distillation_tensor(name, tensor)

    def setup_distillation_loss(self, distillation: Section) -> dict[str, Mapping[str, Any]]:
        """Returns the loss nodes by name, given the section `distillation`; a model may add its own or change them."""
        return dict(distillation.loss)

    def distillation_widths(self) -> Widths:
        """Returns, for each name that stands for hidden states or attention maps, the width of each layer's tensor."""
        return {}

    def validate_distillation_model(self, teacher: Any) -> list[str]:
        """Called on the student: returns what keeps it from learning from `teacher`, a sentence each."""
        return []

    def initialize_from_teacher(self, teacher: Any, distillation: Section) -> dict | None:
        """Called on a new student: copies what the section asks for from the teacher, and returns a record of it."""
        return None

    def read_from_teacher(self) -> tuple[str, ...]:
        """Returns the names of what a student's own `forward` takes from its teacher. Default: nothing."""
        return ()

    def cached_teacher(self, distillation: Section) -> "DistillationMixin":
        """Called on a new student: returns what plays the teacher from the section's `teacher_cache`.

        It has a `record` of the teacher besides, for the student's config.

        Raises:
            ConfigurationError: if the model's kind has no such cache, or the cache does not fit the student.
        """
        raise ConfigurationError([f"distillation.teacher_cache: there is none for a {type(self).__name__}."])

    def number_of_parameters(self) -> int | None:
        """Returns the number of the model's parameters; None for what has none, such as a teacher cache."""
        return sum(parameter.numel() for parameter in self.parameters())

    def apply_to_tensors(self, function: Callable[[Tensor], Tensor]) -> None:
        """Called on a teacher: moves or converts its tensors, as `torch.nn.Module.to` does."""
        self._apply(function)

    def modules_to_compile(self) -> list[nn.Module]:
        """Returns what `distillation.compile` compiles. Default: the whole of the model."""
        return [self]

    def batch_origin(self, batch: Any) -> str:
        """Says in a sentence where a training batch comes from, for the user to look at it. Default: nothing."""
        return ""

    def distillation_forward(self, batch: Any) -> Any:
        """Runs the model on a training batch, so that its `forward` registers. Default: `training_step`."""
        return self.training_step(batch, 0)

    def distillation_train_loss(self, outputs: Any, batch: Any) -> Tensor:
        """Returns the student's own training loss, given what `distillation_forward` returned."""
        return outputs["loss"] if isinstance(outputs, Mapping) else outputs

    def distillation_labels(self, batch: Any) -> SmoothedLabels:
        """Returns what `distillation_train_loss` learns, where `distillation_forward` returned a Projection.

        A model that registers a `projection` must have it; no other is asked.
        """
        raise NotImplementedError(f"{type(self).__name__} registers a projection and has no distillation_labels")

    def distillation_batch_weight(self, batch: Any) -> float | Tensor:
        """Returns how much a batch counts beside others of the same optimizer step, on this device and on others.

        A model whose losses are means over tokens returns the number of those; by default, all batches count the same.
        """
        return 1.0

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Logs through the model that trains this one; a teacher logs nothing."""
        if self.is_being_distilled() and not self.is_student_model():
            return
        (self._log or super().log)(name, value, *args, **kwargs)

    def log_through(self, trained: Any) -> None:
        """Called on a student: has it log as `trained`, the model that the trainer trains, does."""
        self._log = trained.log
