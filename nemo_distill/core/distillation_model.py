"""Trains a student from a frozen teacher, for any pair of NeMo models that use DistillationMixin."""

from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
from nemo.core.classes import ModelPT
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from nemo_distill import __version__
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.schedule import as_schedule
from nemo_distill.config.section import read_section
from nemo_distill.core.distillation_section import DistillationSection
from nemo_distill.core.loss_terms import STUDENT_LOSS, StepLosses, checked_loss_terms
from nemo_distill.core.registry import PROJECTION, DistillationRegistry, Role
from nemo_distill.core.teachers import Teachers
from nemo_distill.losses.closed_forms import SmoothedLabels
from nemo_distill.losses.projection import Projection
from nemo_distill.nemo_files.archive_safety import TRAINING_SECTIONS
from nemo_distill.nemo_files.host_fixes import logs_this_step
from nemo_distill.nemo_files.restore import restore_for_inference
from nemo_distill.nemo_files.weights import check_weights
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import fingerprint

WEIGHT_UNIT = 1000.0  # tokens; keeps the weighted losses in the range of half precision
SMALLEST_WEIGHT = 1e-12  # avoids a division by zero in a step without tokens, where all gradients are zero


class DistillationModelPT(ModelPT):
    """Trains a student model from a frozen teacher.

    In each training step, both models run the same `forward`, which registers tensors by name. Each configured loss
    reads the tensors that it needs, and the student is trained on the weighted sum of the losses. The student handles
    data, validation and testing. Checkpoints contain the student and what the losses learn, but no teacher. `save_to`
    writes the student's `.nemo`.

    Args:
        cfg: the student's NeMo config with an additional `distillation` section; see `DistillationSection`.
        trainer: the Lightning trainer.
        model_class: the class of teacher and student.

    Raises:
        ConfigurationError: if losses, teacher and student do not fit together. It lists all problems.
    """

    def __init__(self, cfg: DictConfig, trainer: Any = None, *, model_class: type[ModelPT]):
        cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
        # The student sets up the data, so leave the data sections out here.
        super().__init__(cfg=_without(cfg, TRAINING_SECTIONS[:3]), trainer=trainer)
        section = _read_section(cfg, model_class)
        paths = [] if section.teacher_cache else section.teachers
        models = [
            model_class.other_teacher(path, section) or restore_for_inference(model_class, path) for path in paths
        ]
        teachers = Teachers(models, section.teacher_weights)
        self.student = model_class(_student_config(cfg, paths), trainer=trainer)
        self.student.log_through(self)
        self._train_dl = self.student._train_dl  # NeMo's schedulers count its batches
        self.step_weight: Tensor | float = 0.0  # total weight of the batches since the last optimizer step
        self.step_losses: dict[str, Tensor] = {}  # unweighted losses of the last batch
        if section.teacher_cache:
            teachers = Teachers([self.student.cached_teacher(section)])
            self._record(teachers=[teachers.first.record])
        first = teachers.first
        self._set_up_losses(section, teachers)
        if (copied := self.student.initialize_from_teacher(first, section)) is not None:
            self._record(initialized_from_teacher=copied)
        self.teacher_parameters = first.number_of_parameters()
        self.teachers = teachers if self.loss_terms else Teachers([])  # free the teachers if no loss reads them
        if section.teacher_precision == "bfloat16":  # only after the student has copied its initial weights
            for teacher in self.teachers:
                teacher.bfloat16()
        if section.compile:
            self._compile_models(section.compile)

    def _record(self, **facts: Any) -> None:
        """Adds facts about how the student was made to its config."""
        with open_dict(self.student.cfg):
            self.student.cfg.distilled_with.update(facts)

    def _set_up_losses(self, section: DistillationSection, teachers: Teachers) -> None:
        self.loss_terms, problems = checked_loss_terms(
            section,
            self.student.setup_distillation_loss(section),
            self.student.distillation_tensors,
            (self.student.distillation_widths(), teachers.first.distillation_widths()),
            cached_words=teachers.first.record["cached"]["k"] if section.teacher_cache else None,
        )
        if not section.teacher_cache:
            problems += teachers.problems(self.loss_terms)
        for teacher in teachers:
            problems += self.student.validate_distillation_model(teacher)
        if problems:
            raise ConfigurationError(problems)
        teachers.models = [self.student.adapt_teacher(teacher) for teacher in teachers]
        self.student_weight, self.temperature = section.student_weight, as_schedule(section.temperature)
        self.fused = section.fused and PROJECTION in self.student.distillation_tensors
        self.losses = nn.ModuleDict({term.name: term.loss for term in self.loss_terms})

    def _compile_models(self, backend: str) -> None:
        torch._dynamo.config.skip_nnmodule_hook_guards = False  # models add and remove hooks between steps
        for model in (*self.teachers, self.student):
            for module in model.modules_to_compile():
                module.compile(backend=backend, dynamic=True)

    @property
    def teacher(self) -> ModelPT | None:
        """The frozen teacher (the first one if there are several) on the student's device, or None."""
        return self.teachers.first

    def _apply(self, fn: Any, recurse: bool = True) -> "DistillationModelPT":
        self.teachers.apply(fn)  # every move to a device or a precision goes through here
        return super()._apply(fn, recurse)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the student."""
        return self.student(*args, **kwargs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the loss of one batch multiplied by the batch weight, and logs all loss terms.

        Batches have different numbers of tokens, so their means must not be averaged directly.
        `on_before_optimizer_step` divides the gradients by the total weight of the optimizer step.
        """
        step = self.trainer.global_step
        batch, terms, counts = self.step_inputs(batch, step)
        losses = self.distillation_losses(batch, step, terms)
        total = terms.weighted_sum(losses)
        weight = torch.as_tensor(self.student.distillation_batch_weight(batch), device=total.device).float()
        weight = weight / WEIGHT_UNIT
        self.step_weight = self.step_weight + weight
        self.step_losses = {name: value.detach() for name, value in losses.items()}
        values = {f"{name}_loss": value for name, value in losses.items()} | {"train_loss": total}
        self._log_losses(values, weight, counts)
        return total * weight

    def step_inputs(self, batch: Any, step: int) -> tuple[Any, StepLosses, dict[str, Tensor]]:
        """Returns what an optimizer step learns from a batch: the batch, the loss terms, and counts to log.

        If the student's own outputs become the targets, terms that read references are left out. If no other term has
        a weight at this step, the given batch is used.
        """
        terms = self.terms_at(step)
        others = terms.without_references(self.student.reference_tensors)
        own, counts = self.student.own_batch(batch, step) if others.terms else (None, {})
        return (batch, terms, counts) if own is None else (own, others, counts)

    def distillation_losses(self, batch: Any, step: int = 0, terms: StepLosses | None = None) -> dict[str, Tensor]:
        """Runs teacher and student on a batch and returns the unweighted losses by name.

        Losses with weight 0 at this optimizer step are skipped, and their tensors are not registered. The entry
        `student` is the student's own training loss. It is the only entry if all weights are 0.
        """
        terms = terms or self.terms_at(step)
        with ExitStack() as once:
            for model in (*self.teachers, self.student) if terms.passes > 1 else ():
                once.enter_context(model.source_once())
            losses, outputs = self._pass(batch, step, terms)
            for _ in range(1, terms.passes):
                batch = self.student.reread_batch(batch, outputs)
                more, outputs = self._pass(batch, step, terms.of_later_passes())
                losses |= {name: losses[name] + value for name, value in more.items()}
        return losses

    def _pass(self, batch: Any, step: int, terms: StepLosses) -> tuple[dict[str, Tensor], Any]:
        """Runs teacher and student once. Returns the losses, and the outputs of the student's forward."""
        shared = {(Role.TEACHER, name) for name in self.student.read_from_teacher()}
        registry = DistillationRegistry(terms.wanted() | shared, self.temperature.at(step))
        if terms.terms:
            self.teachers.register(batch, registry)
        with self.student.distillation_pass(Role.STUDENT, registry):
            outputs = self.student.distillation_forward(batch)
        return terms.compute(registry, self._own_loss(terms, outputs, batch)), outputs

    def terms_at(self, step: int) -> StepLosses:
        """Returns the loss terms whose weight is not 0 at an optimizer step."""
        passes = self.student.distillation_passes
        return StepLosses(self.loss_terms, self.student_weight, step, self.fused, passes)

    def _own_loss(self, terms: StepLosses, outputs: Any, batch: Any) -> Tensor | SmoothedLabels | None:
        """Returns the student's own loss, or its labels if the fused pass computes that loss."""
        if STUDENT_LOSS not in terms.weights:
            return None
        if isinstance(outputs, Projection):
            return self.student.distillation_labels(batch)
        return self.student.distillation_train_loss(outputs, batch)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Scales the gradients to those of the mean over all tokens of the step, across batches and devices."""
        # Lightning has already divided by the number of accumulated batches, and DDP by the number of devices.
        divided = self.trainer.accumulate_grad_batches * self.trainer.world_size
        scale = divided / _sum_over_devices(self.step_weight).clamp(min=SMALLEST_WEIGHT)
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        self.step_weight = 0.0

    def _log_losses(self, losses: dict[str, Tensor], batch_weight: Tensor, counts: dict[str, Tensor]) -> None:
        """Logs the learning rate, each loss averaged over the tokens of all devices, and the sums of the counts.

        With several devices this needs communication, so it runs only in the steps that the trainer logs.
        """
        if self.trainer.world_size > 1 and not logs_this_step(self.trainer):
            return
        weighted = [value.detach() * batch_weight for value in losses.values()]
        weight, *sums = _sum_over_devices(torch.stack([batch_weight, *weighted, *counts.values()])).unbind()
        for name, value in zip(losses, sums):
            self.log(name, value / weight.clamp(min=SMALLEST_WEIGHT), prog_bar=name == "train_loss")
        for name, value in zip(counts, sums[len(losses) :]):
            self.log(name, value)
        self.log("lr", self._optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        with torch.compiler.set_stance("force_eager"):  # decoding has many shapes and would be recompiled for each
            return self.student.validation_step(batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self) -> Any:
        return self.student.on_validation_epoch_end()

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        with torch.compiler.set_stance("force_eager"):
            return self.student.test_step(batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self) -> Any:
        return self.student.on_test_epoch_end()

    def train_dataloader(self) -> Any:
        return self.student.train_dataloader()

    def val_dataloader(self) -> Any:
        return self.student.val_dataloader()

    def test_dataloader(self) -> Any:
        return self.student.test_dataloader()

    def setup_training_data(self, train_data_config: DictConfig) -> None:
        self.student.setup_training_data(train_data_config)
        self._train_dl = self.student._train_dl

    def setup_validation_data(self, val_data_config: DictConfig) -> None:
        self.student.setup_validation_data(val_data_config)

    def batch_origin(self, batch: Any) -> str:
        """Returns a sentence that tells the user where a training batch comes from."""
        return self.student.batch_origin(batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_weights(self, "No checkpoint is written: the student")

    def save_to(self, save_path: str) -> Any:
        """Writes the student's `.nemo`. Plain NeMo can restore it."""
        return self.student.save_to(save_path)

    @classmethod
    def list_available_models(cls) -> None:
        """Returns None: there are no published models of this class."""
        return None


def _read_section(cfg: DictConfig, model_class: type[ModelPT]) -> DistillationSection:
    values = OmegaConf.to_container(cfg.distillation)
    section, problems = read_section(model_class.distillation_section, values, "distillation")
    if section and not section.teachers and not section.teacher_cache:
        problems = problems or ["distillation.model_path has no value; name a teacher, or a teacher_cache."]
    if section is None or problems:
        raise ConfigurationError(problems)
    return section


def _without(cfg: DictConfig, sections: tuple[str, ...]) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key not in sections])


def _student_config(cfg: DictConfig, teachers: list[str]) -> DictConfig:
    """Returns the student's config, with a `distilled_with` record instead of the `distillation` section."""
    distillation = OmegaConf.to_container(cfg.distillation)
    student = _without(cfg, ("distillation",))
    with open_dict(student):
        student.distilled_with = {
            "nemo_distill": __version__,
            "teachers": [fingerprint(user_path(path)) for path in teachers],
            # NeMo refuses to restore a config with a `_target_` outside its own packages.
            "distillation": _rename_targets(distillation),
        }
    return student


def _rename_targets(node: Any) -> Any:
    if isinstance(node, dict):
        return {("class" if key == "_target_" else key): _rename_targets(value) for key, value in node.items()}
    return node


def _sum_over_devices(value: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(value)
    return value
