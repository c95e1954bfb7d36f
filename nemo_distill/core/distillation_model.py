"""Trains a student from a frozen teacher, for any pair of NeMo models that carry DistillationMixin."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from nemo.core.classes import ModelPT
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from nemo_distill import __version__
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.schedule import parse_schedule
from nemo_distill.core.loss_terms import build_loss_terms, cached_teacher_problems, nothing_to_train_on
from nemo_distill.core.registry import PROJECTION, DistillationRegistry, Role
from nemo_distill.core.step_losses import STUDENT_LOSS, StepLosses
from nemo_distill.core.teacher_ensemble import (
    AVERAGED,
    AveragedTeachers,
    average_log_probs,
    ensemble_problems,
    teacher_paths,
    teacher_weights,
)
from nemo_distill.losses.projection import Projection
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.restore import TRAINING_SECTIONS, restore_for_inference
from nemo_distill.nemo_files.weights import check_weights

WEIGHT_UNIT = 1000.0  # tokens; keeps the weighted losses in the range of half precision
SMALLEST_WEIGHT = 1e-12  # of a step without any token, whose gradients are zero


class DistillationModelPT(ModelPT):
    """A frozen teacher and a student in training.

    In each training step both run the same `forward`, which registers tensors by name; each configured loss reads the
    tensors that it asks for, and the student is trained on the weighted sum of the losses. Data, validation and
    testing are the student's own. Checkpoints hold the student alone; `save_to` writes the student's `.nemo`.

    Args:
        cfg: the student's config as NeMo has it, with a section `distillation`: `model_path`, the teacher's `.nemo`,
            or a list of them, whose distributions are averaged with the shares in `teacher_weights` (default: equal);
            or instead `teacher_cache`, a folder that holds what a teacher said of the training data, and
            `teacher_cache_tail`, what is made of the words that it left out (default `renormalize`);
            `teacher_precision`, `bfloat16` for teachers at half the memory (default: that of their weights);
            `temperature` (default 1); `student_train_loss_weight` (default 0), the weight of the student's own loss;
            `loss`, a mapping from names to loss nodes (`_target_`, `weight`, arguments); `allowed_targets`; `compile`,
            the name of a backend of torch.compile; `fused` (default true): losses on distributions are computed from
            hidden states, a few tokens at a time, where model and loss can. Temperature and weights are numbers or
            schedules over optimizer steps.
        trainer: the trainer that will run it.
        model_class: the class of both models.

    Raises:
        ConfigurationError: with all reasons at once, if losses, teacher and student do not fit together.
    """

    def __init__(self, cfg: DictConfig, trainer: Any = None, *, model_class: type[ModelPT]):
        cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
        # Without data sets: those are the student's, which does not exist yet.
        super().__init__(cfg=_without(cfg, TRAINING_SECTIONS[:3]), trainer=trainer)
        cached = bool(cfg.distillation.get("teacher_cache"))
        paths = [] if cached else teacher_paths(cfg.distillation.model_path)
        # In a tuple, which hides them from torch: no gradient, no optimizer, no checkpoint, no train mode, no DDP.
        self.teachers = tuple(restore_for_inference(model_class, path) for path in paths)
        if cfg.distillation.get("teacher_precision"):
            for teacher in self.teachers:
                teacher.bfloat16()
        self.teacher_weights = teacher_weights(cfg.distillation.get("teacher_weights"), max(1, len(paths)))
        self.student = model_class(_student_config(cfg, paths), trainer=trainer)
        self.student._distillation_owner = (self,)
        self.step_weight: Tensor | float = 0.0  # of the batches since the last optimizer step
        self.step_losses: dict[str, Tensor] = {}  # the unweighted ones of the last batch
        self._train_dl = self.student._train_dl  # NeMo's schedulers count its batches
        distillation = OmegaConf.to_container(cfg.distillation)
        if cached:
            self._open_teacher_cache(distillation)
        self._set_up_losses(distillation)
        copied = self.student.initialize_from_teacher(self.teacher, distillation)
        if copied is not None:
            with open_dict(self.student.cfg):
                self.student.cfg.distilled_with.initialized_from_teacher = copied
        self.teacher_parameters = number_of_parameters(self.teacher)
        if not self.loss_terms:
            self.teachers = ()  # which no step would run
        if backend := distillation.get("compile"):
            self._compile_models(backend)

    def _open_teacher_cache(self, distillation: dict[str, Any]) -> None:
        teacher = self.student.cached_teacher(distillation)
        self.teachers = (teacher,)
        with open_dict(self.student.cfg):
            self.student.cfg.distilled_with.teachers = [teacher.record]

    def _set_up_losses(self, distillation: dict[str, Any]) -> None:
        nodes = self.student.setup_distillation_loss(distillation)
        self.loss_terms, problems = build_loss_terms(
            nodes,
            distillation.get("allowed_targets") or (),
            self.student.distillation_tensors,
            (self.student.distillation_widths(), self.teacher.distillation_widths()),
        )
        weight = distillation.get("student_train_loss_weight", 0.0)
        temperature = distillation.get("temperature", 1.0)
        self.student_weight = parse_schedule(weight, "student_train_loss_weight", minimum=0)
        self.temperature = parse_schedule(temperature, "temperature", minimum=0, above=True)
        problems = problems or nothing_to_train_on(self.loss_terms, self.student_weight)
        problems += ensemble_problems(self.loss_terms, len(self.teachers))
        if distillation.get("teacher_cache"):
            kept = self.teacher.record["cached"]["k"]
            problems += cached_teacher_problems(self.loss_terms, distillation.get("teacher_cache_tail"), kept)
        for teacher in self.teachers:
            problems += self.student.validate_distillation_model(teacher)
        if problems:
            raise ConfigurationError(problems)
        self.fused = distillation.get("fused", True) and PROJECTION in self.student.distillation_tensors
        self.losses = nn.ModuleDict({term.name: term.loss for term in self.loss_terms})

    def _compile_models(self, backend: str) -> None:
        torch._dynamo.config.skip_nnmodule_hook_guards = False  # a model may hook into its modules in some steps alone
        for model in (*self.teachers, self.student):
            for module in model.modules_to_compile():
                module.compile(backend=backend, dynamic=True)

    @property
    def teacher(self) -> ModelPT | None:
        """The frozen teacher, or the first of several, in eval mode, on the student's device; None if none is run."""
        return self.teachers[0] if self.teachers else None

    def _apply(self, fn: Any, recurse: bool = True) -> "DistillationModelPT":
        for teacher in self.teachers:
            teacher._apply(fn)  # every move to a device or a precision goes through here
        return super()._apply(fn, recurse)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the student."""
        return self.student(*args, **kwargs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the objective for one batch times the batch's weight, and logs every term of it.

        The means of single batches must not be averaged, since batches hold different numbers of tokens:
        `on_before_optimizer_step` divides by the weight of all batches of the optimizer step.
        """
        step = self.trainer.global_step
        losses = self.distillation_losses(batch, step)
        self.step_losses = {name: value.detach() for name, value in losses.items()}
        weights = {term.name: term.weight for term in self.loss_terms} | {STUDENT_LOSS: self.student_weight}
        total = sum(weights[name].at(step) * value for name, value in losses.items())
        batch_weight = (
            torch.as_tensor(self.student.distillation_batch_weight(batch), device=total.device) / WEIGHT_UNIT
        )
        self.step_weight = self.step_weight + batch_weight
        self._log_losses(
            {f"{name}_loss": value for name, value in losses.items()} | {"train_loss": total}, batch_weight
        )
        return total * batch_weight

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Makes the gradients those of the mean over all tokens of the step, in whatever batch or device they were."""
        # Lightning has divided by the number of accumulated batches, and DDP by that of devices.
        divided = self.trainer.accumulate_grad_batches * self.trainer.world_size
        scale = divided / _sum_over_devices(self.step_weight).clamp(min=SMALLEST_WEIGHT)
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        self.step_weight = 0.0

    def _log_losses(self, losses: dict[str, Tensor], batch_weight: Tensor) -> None:
        """Logs each loss as its mean over the tokens of all devices, and the learning rate.

        Several devices meet for that only in the steps that the trainer logs; the progress bar waits for those.
        """
        if self.trainer.world_size > 1 and not self.trainer._logger_connector.should_update_logs:
            return
        weighted = torch.stack([value.detach() * batch_weight for value in losses.values()] + [batch_weight])
        *sums, weight = _sum_over_devices(weighted).unbind()
        for name, value in zip(losses, sums):
            self.log(name, value / weight.clamp(min=SMALLEST_WEIGHT), prog_bar=name == "train_loss")
        self.log("lr", self._optimizer.param_groups[0]["lr"])

    def distillation_losses(self, batch: Any, step: int = 0) -> dict[str, Tensor]:
        """Runs teacher and student on a batch and returns the unweighted losses by name.

        Those whose weight is 0 at this optimizer step are left out, and nothing is registered for them. `student` is
        the student's own training loss; where all weights are 0, it alone is there.
        """
        terms = StepLosses(self.loss_terms, step, self.fused)
        shared = {(Role.TEACHER, name) for name in self.student.read_from_teacher()}
        registry = DistillationRegistry(terms.wanted() | shared, self.temperature.at(step))
        if terms.terms:
            self._run_teachers(batch, registry)
        with self.student.distillation_pass(Role.STUDENT, registry):
            outputs = self.student.distillation_forward(batch)
        own, labels = {}, None
        weight = self.student_weight.at(step)
        if weight or not terms.terms:  # a step of weight 0 still needs something to differentiate
            if isinstance(outputs, Projection):
                labels = self.student.distillation_labels(batch)
            else:
                own[STUDENT_LOSS] = self.student.distillation_train_loss(outputs, batch)
        return terms.compute(registry, labels, weight) | own

    @torch.no_grad()
    def _run_teachers(self, batch: Any, registry: DistillationRegistry) -> None:
        """Lets the teacher register, or registers the average of what several teachers would."""
        if len(self.teachers) == 1:
            registries = [registry]
        else:
            registries = [DistillationRegistry(registry.wanted, registry.temperature) for _ in self.teachers]
        for teacher, registry_of_one in zip(self.teachers, registries):
            with teacher.distillation_pass(Role.TEACHER, registry_of_one):
                teacher.distillation_forward(batch)
        if len(self.teachers) > 1:
            for name, average in ((AVERAGED, average_log_probs), (PROJECTION, AveragedTeachers)):
                if (Role.TEACHER, name) in registry.wanted:
                    of_each = [registry_of_one.get(Role.TEACHER, name) for registry_of_one in registries]
                    registry.register(Role.TEACHER, name, average(of_each, self.teacher_weights))

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        with torch.compiler.set_stance("force_eager"):  # decoding would be compiled over and over, for many shapes
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
        """Says where a training batch comes from."""
        return self.student.batch_origin(batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_weights(self, "No checkpoint is written: the student")

    def save_to(self, save_path: str) -> Any:
        """Writes the student's `.nemo`, which is a model of NeMo's own class."""
        return self.student.save_to(save_path)

    @classmethod
    def list_available_models(cls) -> None:
        """There are no published models of this class."""
        return None


def number_of_parameters(model: Any) -> int | None:
    """Returns the number of a model's parameters; None of what has none to show, as a teacher cache."""
    return sum(parameter.numel() for parameter in model.parameters()) if hasattr(model, "parameters") else None


def _without(cfg: DictConfig, sections: tuple[str, ...]) -> DictConfig:
    kept = cfg.copy()
    with open_dict(kept):
        for section in sections:
            kept.pop(section, None)
    return kept


def _student_config(cfg: DictConfig, teachers: list[str]) -> DictConfig:
    """The student's config, with a record of how it was distilled in place of the instructions."""
    distillation = OmegaConf.to_container(cfg.distillation)
    student = _without(cfg, ("distillation",))
    with open_dict(student):
        student.distilled_with = {
            "nemo_distill": __version__,
            "teachers": [{"name": Path(path).name, "sha256": NemoArchive(path).sha256()} for path in teachers],
            # NeMo refuses to restore a config that holds a `_target_` outside its own packages.
            "distillation": _rename_targets(distillation),
        }
    return student


def _rename_targets(node: Any) -> Any:
    if isinstance(node, dict):
        return {("class" if key == "_target_" else key): _rename_targets(value) for key, value in node.items()}
    return node


def _sum_over_devices(value: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(value)
    return value
