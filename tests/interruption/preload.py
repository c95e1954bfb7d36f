"""What the children of the harness would import, imported once in their parent; no threads may start here."""

import lightning.pytorch
import nemo.utils.exp_manager
import sacrebleu
import tensorboard.summary
import torch.utils.tensorboard

import nemo_distill.evaluation.evaluation_job
import nemo_distill.export.export_model
import nemo_distill.models.translation_teacher
import nemo_distill.pseudo_labels.job
import nemo_distill.pseudo_labels.processes
import nemo_distill.teacher_cache.job
import nemo_distill.training
from nemo_distill import DistillableMTEncDecModel, DistillationModelPT

__all__ = ["DistillableMTEncDecModel", "DistillationModelPT"]
