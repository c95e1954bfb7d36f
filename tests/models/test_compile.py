"""Compiled models train as uncompiled ones do, and leave the same files."""

import itertools

import lightning.pytorch as pl
import pytest
import torch
from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel
from omegaconf import OmegaConf
from torch._dynamo.utils import counters

from nemo_distill import DistillableMTEncDecModel
from tests.models.conftest import distill, distillation_of
from tests.models.test_hugging_face_encoder import BERT

pytestmark = pytest.mark.usefixtures("fresh_compiler")


def losses_and_gradients(config, folder, backend):
    """Of two steps, of which the second looks inside the models and the first does not."""
    config.distillation.compile = backend
    model = distillation_of(config, folder).eval()
    for step, batch in zip((0, 1), itertools.islice(model.train_dataloader(), 2)):
        model.zero_grad()
        losses = model.distillation_losses(batch, step)
        sum(losses.values()).backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        yield {name: value.item() for name, value in losses.items()}, gradients


def test_a_compiled_pair_has_the_losses_and_gradients_of_an_uncompiled_one(distillation_config, tmp_path):
    weight = {"schedule": "linear", "start": 0, "end": 1, "steps": 1}
    for name, loss, argument in (
        ("decoder_layers", "MeanSquaredErrorLoss", "hidden_states"),
        ("encoder_self_attention", "AttentionMapsLoss", "attention_maps"),
        ("decoder_cross_attention", "AttentionMapsLoss", "attention_maps"),
    ):
        node = {"_target_": f"nemo_distill.losses.{loss}", argument: name, "weight": weight}
        distillation_config.distillation.loss[name] = node
    plain = list(losses_and_gradients(distillation_config, tmp_path, None))
    compiled = list(losses_and_gradients(distillation_config, tmp_path, "eager"))
    assert counters["stats"]["unique_graphs"] > 0
    assert len(plain[1][0]) == len(plain[0][0]) + 3
    for (losses, gradients), (expected_losses, expected_gradients) in zip(compiled, plain):
        assert losses == pytest.approx(expected_losses, rel=1e-5, abs=1e-6)
        assert set(gradients) == set(expected_gradients)
        assert all(torch.allclose(gradients[name], value, atol=1e-6) for name, value in expected_gradients.items())


@pytest.mark.parametrize("config_class", ["transformers.BertConfig", "transformers.DistilBertConfig"])
def test_an_encoder_of_hugging_face_is_compiled_too(distillation_config, tmp_path, config_class):
    config = OmegaConf.merge(distillation_config, BERT, {"encoder": {"_target_": config_class}})
    alone = OmegaConf.masked_copy(config, [*config.keys() - {"distillation"}])
    config.distillation.model_path = str(tmp_path / "teacher.nemo")
    DistillableMTEncDecModel(alone).save_to(config.distillation.model_path)
    plain = list(losses_and_gradients(config, tmp_path, None))
    compiled = list(losses_and_gradients(config, tmp_path, "eager"))
    for (losses, gradients), (expected_losses, expected_gradients) in zip(compiled, plain):
        assert losses == pytest.approx(expected_losses, rel=1e-5, abs=1e-6)
        assert all(torch.allclose(gradients[name], value, atol=1e-6) for name, value in expected_gradients.items())
    distillation = distillation_of(config, tmp_path)
    for model in (distillation.student, distillation.teacher):
        torch._dynamo.reset()
        counters.clear()
        model.encoder(input_ids=torch.ones(3, 7, dtype=torch.long), encoder_mask=torch.ones(3, 7))
        assert counters["stats"]["unique_graphs"] >= 2  # the embeddings and the layers


class Graphs(pl.Callback):
    """How many graphs have been compiled before and after each validation."""

    def __init__(self):
        self.counts = []

    def on_validation_start(self, trainer, model):
        self.counts.append(counters["stats"]["unique_graphs"])

    on_validation_end = on_validation_start


def test_only_training_is_compiled_and_plain_nemo_restores_the_student(distillation_config, tmp_path):
    keys = list(distill(distillation_config, tmp_path, max_steps=1, limit_val_batches=0)[0].state_dict())
    distillation_config.distillation.compile = "eager"
    graphs = Graphs()
    model, _ = distill(distillation_config, tmp_path, max_steps=1, val_check_interval=1, callbacks=[graphs])
    before, after = graphs.counts
    assert 0 < before == after
    assert list(model.state_dict()) == keys
    model.save_to(str(tmp_path / "student.nemo"))
    restored = MTEncDecModel.restore_from(str(tmp_path / "student.nemo")).state_dict()
    assert all(torch.equal(value, restored[name]) for name, value in model.student.state_dict().items())
