"""Distils a model of one's own: a `ModelPT` with the mixin before it and one line in its `forward`."""

import lightning.pytorch as pl
import torch
from nemo.core.classes import ModelPT
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, TensorDataset

from nemo_distill import DistillationMixin, DistillationModelPT


class Classifier(DistillationMixin, ModelPT):
    def __init__(self, cfg, trainer=None):
        super().__init__(cfg, trainer=trainer)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(8, cfg.width), torch.nn.ReLU(), torch.nn.Linear(cfg.width, 4)
        )

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

    def setup_validation_data(self, cfg):
        pass

    @classmethod
    def list_available_models(cls):
        return None


def train(build, epochs):
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
    model = build(trainer)
    trainer.fit(model)
    return model


def accuracy(model):
    inputs, labels = model.train_dataloader().dataset.tensors
    return (model(inputs).argmax(dim=-1) == labels).float().mean().item()


def main():
    pl.seed_everything(0)
    common = {"train_ds": {}, "optim": {"name": "adam", "lr": 0.01}}
    teacher = train(lambda trainer: Classifier(OmegaConf.create({"width": 256} | common), trainer), epochs=20)
    teacher.save_to("teacher.nemo")
    losses = {"primary": {"_target_": "nemo_distill.losses.KLDivergenceLoss"}}
    distillation = {"model_path": "teacher.nemo", "temperature": 2.0, "loss": losses}
    cfg = OmegaConf.create({"width": 16, "distillation": distillation} | common)
    student = train(lambda trainer: DistillationModelPT(cfg, trainer, model_class=Classifier), epochs=20)
    student.save_to("student.nemo")
    print(f"teacher {accuracy(teacher):.2f}, student {accuracy(student):.2f}")


if __name__ == "__main__":
    main()
