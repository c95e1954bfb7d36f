"""The mixin that lets a NeMo model serve as teacher or student in distillation."""

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
from nemo_distill.losses.closed_forms import SmoothedLabels


class DistillationPass(NamedTuple):
    """The role that a model plays in one distillation step, and the registry of that step."""

    role: Role
    registry: DistillationRegistry


Section = TypeVar("Section", bound=DistillationSection)


class NeMoHost:
    """What a mixin expects of the NeMo class that follows it in the bases. At run time, it provides nothing."""

    cfg: DictConfig
    trainer: Any
    global_rank: int
    log: Callable[..., None]
    parameters: Callable[[], Iterator[nn.Parameter]]
    training_step: Callable[[Any, int], Any]
    bfloat16: Callable[[], Any]
    _apply: Callable[[Callable[[Tensor], Tensor]], Any]


class DistillationMixin(NeMoHost, Generic[Section]):
    """Adds distillation hooks to a `ModelPT`. List it before the NeMo class in the bases.

    A model needs one line in its `forward`: `self.distillation_registration_step(name=tensor, ...)`. This line does
    nothing outside distillation. The other methods have defaults that a model may override.
    """

    # Names that the model can register. A loss that reads another name is rejected before training starts.
    distillation_tensors: ClassVar[tuple[str, ...]] = ("log_probs",)
    # Those of them that depend on the reference outputs of a batch.
    reference_tensors: ClassVar[tuple[str, ...]] = ()
    # How often a step reads each batch; a model may set it in `setup_distillation_loss`.
    distillation_passes: int = 1
    # The class of the `distillation` section in the model's configuration.
    distillation_section: ClassVar[type[DistillationSection]] = DistillationSection

    _distillation_pass: DistillationPass | None = None
    _log: Callable[..., None] | None = None  # the `log` method of the model that trains this one

    @contextmanager
    def distillation_pass(self, role: Role, registry: DistillationRegistry) -> Iterator[None]:
        """Within this context, the model has the given role and registers its tensors in `registry`."""
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
        """True if a loss of the running step reads `name` from this model. Other tensors need not be computed."""
        step = self._distillation_pass
        return step is not None and (step.role, name) in step.registry.wanted

    def teacher_tensor(self, name: str) -> Registered | None:
        """Returns the teacher's tensor `name` for this step, or None if the teacher did not register it.

        The name must be listed in `read_from_teacher`.
        """
        registry = self.running_step.registry
        return registry.get(Role.TEACHER, name) if registry.has(Role.TEACHER, name) else None

    def register_distillation_tensor(self, name: str, tensor: Tensor | list[Tensor]) -> None:
        """Registers a tensor, or a list with one tensor per layer. Does nothing if no loss reads `name`."""
        if self.wants_distillation_tensor(name):
            self.running_step.registry.register(self.running_step.role, name, tensor)

    def register_distillation_mask(self, name: str, mask: Tensor) -> None:
        """Registers a mask for the tensors called `name`: true at the positions that count, or their weights."""
        if self.is_being_distilled():
            self.running_step.registry.register_mask(name, mask)

    def tempered_log_probs(self, logits: Tensor, is_normalized: bool = False) -> Tensor:
        """Returns log softmax(logits / T) at the step's temperature T (Hinton et al. 2015, eq. 1).

        Args:
            logits: (..., V).
            is_normalized: True if `logits` are log-probabilities. The result is the same, because softmax ignores a
                constant added to its logits. At T = 1 they are returned unchanged, except in half precision.
        """
        temperature = self.running_step.registry.temperature
        if is_normalized and temperature == 1 and torch.finfo(logits.dtype).bits >= 32:
            return logits
        return torch.log_softmax(logits.float() / temperature, dim=-1)

    def distillation_registration_step(self, **tensors: Tensor | list[Tensor]) -> None:
        """Registers each tensor under its keyword. `forward` calls this.

        `logits` and `log_probs` are both registered as `log_probs`, at the temperature of the step.
        """
        for keyword, tensor in tensors.items():
            name = "log_probs" if keyword == "logits" else keyword
            if not self.wants_distillation_tensor(name):
                continue
            if name == "log_probs":
                tensor = self.tempered_log_probs(tensor, is_normalized=keyword == "log_probs")
            self.register_distillation_tensor(name, tensor)

    @classmethod
    def other_teacher(cls, path: str, distillation: Section) -> "DistillationMixin | None":
        """Loads a teacher that is no `.nemo` of this class. Default: None, so that it is restored as one."""
        return None

    def setup_distillation_loss(self, distillation: Section) -> dict[str, Mapping[str, Any]]:
        """Returns the config node of each loss by name. A model may override this to add or change losses."""
        return dict(distillation.loss)

    def distillation_widths(self) -> Widths:
        """Returns the width of each layer, for each name that stands for hidden states or attention maps."""
        return {}

    def validate_distillation_model(self, teacher: Any) -> list[str]:
        """Returns the reasons why this student cannot learn from `teacher`, one sentence each."""
        return []

    def adapt_teacher(self, teacher: Any) -> Any:
        """Returns the teacher to use for each valid teacher of a new student. Default: the same."""
        return teacher

    def initialize_from_teacher(self, teacher: Any, distillation: Section) -> dict | None:
        """Copies weights from the teacher into this new student as configured. Returns a record of what was copied."""
        return None

    def read_from_teacher(self) -> tuple[str, ...]:
        """Returns the names of the teacher tensors that the student's own `forward` reads. Default: none."""
        return ()

    def cached_teacher(self, distillation: Section) -> "DistillationMixin":
        """Returns a teacher that reads its outputs from the configured `teacher_cache`. Called on a new student.

        The returned object also has a `record` of the teacher, for the student's config.

        Raises:
            ConfigurationError: if this kind of model has no teacher cache, or the cache does not fit the student.
        """
        raise ConfigurationError([f"distillation.teacher_cache: not supported for {type(self).__name__}."])

    def number_of_parameters(self) -> int | None:
        """Returns the number of parameters, or None for a model without parameters, such as a cached teacher."""
        return sum(parameter.numel() for parameter in self.parameters()) or None

    def modules_to_compile(self) -> list[nn.Module]:
        """Returns the modules that `distillation.compile` compiles. Default: the whole model."""
        return [self]

    def batch_origin(self, batch: Any) -> str:
        """Returns a sentence that tells the user where a training batch comes from. Default: an empty string."""
        return ""

    def distillation_forward(self, batch: Any) -> Any:
        """Runs `forward` on a training batch, which registers the tensors. Default: `training_step`."""
        return self.training_step(batch, 0)

    def own_batch(self, batch: Any, step: int) -> tuple[Any, dict[str, Tensor]]:
        """Returns the batch with this student's own outputs as targets, and counts to log.

        The batch is None if the student learns from the given one at this step, which is the default. The answer must
        be the same on all devices.
        """
        return None, {}

    def reread_batch(self, batch: Any, outputs: Any) -> Any:
        """Returns the batch of the next pass. A student with `distillation_passes` above 1 must override it.

        Args:
            batch: the batch of this pass.
            outputs: what the student's `distillation_forward` returned for it.
        """
        raise NotImplementedError(f"{type(self).__name__} reads each batch several times but lacks reread_batch")

    @contextmanager
    def source_once(self) -> Iterator[None]:
        """Within this context, all passes have the same source, so that it need be encoded only once."""
        yield

    def distillation_train_loss(self, outputs: Any, batch: Any) -> Tensor:
        """Returns the student's own training loss from the outputs of `distillation_forward`."""
        return outputs["loss"] if isinstance(outputs, Mapping) else outputs

    def distillation_labels(self, batch: Any) -> SmoothedLabels:
        """Returns the labels for the fused pass, used when `distillation_forward` returns a `Projection`.

        Models that register a `projection` must override this.
        """
        raise NotImplementedError(f"{type(self).__name__} registers 'projection' but lacks distillation_labels")

    def distillation_batch_weight(self, batch: Any) -> float | Tensor:
        """Returns the weight of a batch relative to the other batches of the same optimizer step, on all devices.

        Override it to return the number of tokens if the losses are means over tokens. Default: equal weights.
        """
        return 1.0

    def number_of_targets(self, batch: Any) -> int | Tensor:
        """Returns the number of target tokens of a batch, without padding, for the training's record. Default: 0."""
        return 0

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Logs through the model that trains this one. Teachers log nothing."""
        if self.is_being_distilled() and not self.is_student_model():
            return
        (self._log or super().log)(name, value, *args, **kwargs)

    def log_through(self, trained: Any) -> None:
        """Makes this student log through `trained`, the model that the trainer trains."""
        self._log = trained.log
