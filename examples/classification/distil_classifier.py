"""Distils a model of one's own: a `ModelPT` with the mixin before it and one line in its `forward`.

It trains both in seconds, and writes `classifier_teacher.nemo` and `classifier_student.nemo` into the current folder.
"""

from functools import partial

import lightning.pytorch as pl
import torch
from nemo.core.classes import ModelPT
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, TensorDataset

from nemo_distill import DistillationMixin, DistillationModelPT


class Classifier(DistillationMixin, ModelPT):
    def __init__(self, cfg, trainer=None):
        super().__init__(cfg, trainer=trainer)
        hidden, head = torch.nn.Linear(8, cfg.width), torch.nn.Linear(cfg.width, 4)
        self.layers = torch.nn.Sequential(hidden, torch.nn.ReLU(), head)

    def forward(self, inputs):
        logits = self.layers(inputs)
        self.distillation_registration_step(logits=logits)
        return logits

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def setup_training_data(self, cfg):
        inputs = torch.randn(2048, 8, generator=torch.Generator().manual_seed(0))
        labels = (inputs[:, :4] * inputs[:, 4:]).argmax(dim=-1)
        self._train_dl = DataLoader(TensorDataset(inputs, labels), batch_size=64, shuffle=True)

    setup_validation_data = list_available_models = lambda *args: None  # there are none of either


def train(model_class, name, **cfg):
    pl.seed_everything(0)
    trainer = pl.Trainer(max_epochs=20, accelerator="cpu", logger=False, enable_checkpointing=False)
    common = {"train_ds": {}, "optim": {"name": "adam", "lr": 0.01}}
    model = model_class(OmegaConf.create(common | cfg), trainer)
    trainer.fit(model)
    model.save_to(name)
    inputs, labels = model.train_dataloader().dataset.tensors
    print(name, f"{(model(inputs).argmax(dim=-1) == labels).float().mean().item():.2f}")


def main():
    train(Classifier, "classifier_teacher.nemo", width=256)
    losses = {"primary": {"_target_": "nemo_distill.losses.KLDivergenceLoss"}}
    distillation = {"model_path": "classifier_teacher.nemo", "temperature": 2.0, "loss": losses}
    student = partial(DistillationModelPT, model_class=Classifier)
    train(student, "classifier_student.nemo", width=16, distillation=distillation)


if __name__ == "__main__":
    main()
