"""A distillation job whose configuration is whole, and what is wrong with one that is not."""

import lightning.pytorch as pl
import pytest
import torch

from nemo_distill import DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import console
from nemo_distill.core.registry import DistillationRegistry, Role
from tests.conftest import composed

TINY = [f"model.{side}.{key}={value}" for side in ("encoder", "decoder") for key, value in {"hidden_size": 16, "inner_size": 32, "num_attention_heads": 2, "num_layers": 1}.items()]  # fmt: skip


@pytest.fixture
def job(corpus, teacher_path):
    """Composes a distillation job as the command line would, from the overrides that make it complete and more."""

    def compose_job(*overrides, name="aayn_base_distill"):
        files = [
            f"model.{section}.{key}_file_name={corpus}/{part}.{language}"
            for section, part in (("train_ds", "train"), ("validation_ds", "val"))
            for key, language in (("src", "de"), ("tgt", "en"))
        ]
        teacher = [f"model.distillation.model_path={teacher_path}"] if "distill" in name else []
        return composed(name, *files, "~model.test_ds", *teacher, *overrides)

    return compose_job


def with_tokenizers(path):
    """The overrides that give both sides this tokenizer."""
    return [f"model.{side}_tokenizer.tokenizer_model={path}" for side in ("encoder", "decoder")]


def quiet_trainer(folder, **options):
    return pl.Trainer(**{
        "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "default_root_dir": folder, "max_steps": 2, "num_sanity_val_steps": 0, **options,
    })  # fmt: skip


def distillation_of(config, folder, **options):
    """Returns a seeded distillation of a `model` section. The options are of its trainer."""
    pl.seed_everything(0)
    return DistillationModelPT(config, quiet_trainer(folder, **options), model_class=DistillableMTEncDecModel)


def three_steps(config, folder):
    """Returns a seeded distillation, and its trainer of three steps without validation."""
    model = distillation_of(config, folder, max_steps=3, limit_val_batches=0)
    return model, model.trainer


def distill(config, folder, **options):
    """Returns a distillation after its training, and its trainer."""
    model = distillation_of(config, folder, **options)
    model.trainer.fit(model)
    return model, model.trainer


def losses_and_gradient(model, batch):
    values = model.distillation_losses(batch)
    model.zero_grad()
    sum(values.values()).backward()
    return values, torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])


def registered(teacher, batch, *names, temperature=1.0):
    """What a teacher registers for a batch."""
    registry = DistillationRegistry([(Role.TEACHER, name) for name in names], temperature)
    with torch.no_grad(), teacher.distillation_pass(Role.TEACHER, registry):
        teacher.distillation_forward(batch)
    return registry


@pytest.fixture
def warnings(monkeypatch):
    """What is printed as a warning."""
    found = []
    monkeypatch.setattr(console, "warning", found.append)
    return found


def problems(check, cfg):
    with pytest.raises(ConfigurationError) as error:
        check(cfg)
    return error.value.problems
