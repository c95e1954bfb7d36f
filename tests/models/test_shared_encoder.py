"""A student with its teacher's encoder: the same weights before and after training, and run once for both."""

import lightning.pytorch as pl
import pytest
import torch

from nemo_distill import DistillableMTEncDecModel, DistillationModelPT
from nemo_distill.config.section import read_section
from nemo_distill.models.distillation_section import TranslationDistillation
from nemo_distill.models.initialization import shared_encoder_problems
from tests.models.conftest import distill, distillation_of


@pytest.fixture
def sharing_config(distillation_config):
    """KL and the student's own loss; the decoder alone is learned."""
    distillation_config.shared_embeddings = False
    distillation_config.distillation.share_encoder = True
    distillation_config.distillation.cosine_loss_weight = 0
    return distillation_config


def encoder_weights(model):
    return {name: value.clone() for name, value in model.encoder.state_dict().items()}


def test_the_encoder_stays_the_teachers_and_the_decoder_learns(sharing_config, tmp_path):
    pl.seed_everything(0)  # as `distill` does
    before = DistillationModelPT(sharing_config, model_class=DistillableMTEncDecModel).student.decoder.state_dict()
    model, _ = distill(sharing_config, tmp_path)
    theirs = encoder_weights(model.teacher)
    assert all(torch.equal(value, theirs[name]) for name, value in encoder_weights(model.student).items())
    after = model.student.decoder.state_dict()
    moved = {name: not torch.equal(value, before[name]) for name, value in after.items()}
    assert (
        all(moved[name] for name in moved if "query_net.weight" in name)
        and not moved["_embedding.position_embedding.pos_enc"]
    )
    assert model.student.cfg.distilled_with.initialized_from_teacher.encoder == "shared"


def test_the_encoder_runs_once_a_step_and_without_dropout(sharing_config, tmp_path):
    model = distillation_of(sharing_config, tmp_path).train()
    runs = []
    for translator in (model.student, model.teacher):
        translator.encoder.encoder.register_forward_hook(lambda *_, who=translator: runs.append(who))
    assert model.student.decoder.training and not model.student.encoder.training
    model.distillation_losses(next(iter(model.train_dataloader())))
    assert runs == [model.teacher]


def test_where_the_teacher_does_not_run_the_encoder_has_no_dropout_either(sharing_config, tmp_path):
    sharing_config.distillation.distillation_loss_weight = {"schedule": "linear", "start": 1.0, "end": 0.0, "steps": 1}
    sharing_config.distillation.student_train_loss_weight = 1
    model = distillation_of(sharing_config, tmp_path)
    modes = []
    model.student.encoder.register_forward_hook(lambda encoder, *_: modes.append(encoder.training))
    model.distillation_losses(next(iter(model.train_dataloader())), step=1)
    assert modes == [False]


def test_a_teacher_that_only_lends_its_encoder_is_not_kept(sharing_config):
    sharing_config.distillation.update({"distillation_loss_weight": 0, "student_train_loss_weight": 1})
    model = DistillationModelPT(sharing_config, model_class=DistillableMTEncDecModel)
    assert len(model.teachers) == 0 and not model.student.encoder.training


def test_the_losses_are_those_of_an_encoder_of_its_own_with_the_same_weights(sharing_config, tmp_path):
    model = distillation_of(sharing_config, tmp_path).eval()
    batch = next(iter(model.train_dataloader()))
    shared = model.distillation_losses(batch)
    model.student._shares_encoder = False
    own = model.distillation_losses(batch)
    assert set(shared) == set(own) == {"primary", "student"}
    assert all(torch.equal(value, own[name]) for name, value in shared.items())


ENCODER = {"num_layers": 4, "hidden_size": 16, "inner_size": 32, "num_attention_heads": 2, "hidden_act": "relu"}
KL = {"primary": {"_target_": "nemo_distill.losses.KLDivergenceLoss", "weight": 1}}


@pytest.mark.parametrize(
    ("changes", "distillation", "losses", "sentence"),
    [
        ({"encoder": ENCODER | {"num_layers": 3}}, {}, {}, "model.encoder has num_layers=3, the teacher has 4;"),
        ({"shared_embeddings": True}, {}, {}, "would also freeze the decoder's embeddings"),
        (
            {},
            {"noise": {"mask": 0.1}},
            {},
            "with model.distillation.noise, student and teacher would read different sources",
        ),
        ({}, {"teacher_cache": "cache"}, {}, "cannot be combined with model.distillation.teacher_cache=cache."),
        (
            {},
            {"teacher_precision": "bfloat16"},
            {},
            "cannot be combined with model.distillation.teacher_precision=bfloat16.",
        ),
        (
            {},
            {"distilbert_initialization": True},
            {},
            "cannot be combined with model.distillation.distilbert_initialization=True.",
        ),
        (
            {},
            {},
            {"cosine": {"weight": 1, "hidden_states": "encoder_layers"}},
            "model.distillation.loss.cosine, which compares their 'encoder_layers'",
        ),
    ],
)
def test_what_cannot_be_shared_is_told(changes, distillation, losses, sentence):
    section, _ = read_section(TranslationDistillation, {**distillation, "loss": KL | losses}, "distillation")
    model = {"encoder": ENCODER} | changes
    (problem,) = shared_encoder_problems(model, section, 1, {"encoder": ENCODER | {"pre_ln": False}})
    assert problem.startswith("model.distillation.share_encoder") and sentence in problem


def test_of_several_teachers_none_is_shared_with():
    model, section = {"encoder": ENCODER}, TranslationDistillation(loss=KL)
    assert shared_encoder_problems(model, section, 1, {"encoder": ENCODER}) == []
    assert len(shared_encoder_problems(model, section, 2, {"encoder": ENCODER})) == 1


def test_a_teacher_that_no_step_runs_is_not_kept(distillation_config, tmp_path):
    for key, weight in {"distillation": 0, "student_train": 1, "cosine": 0}.items():
        distillation_config.distillation[f"{key}_loss_weight"] = weight
    model, _ = distill(distillation_config, tmp_path)
    assert len(model.teachers) == 0 and model.teacher is None
    assert model.teacher_parameters == sum(parameter.numel() for parameter in model.student.parameters())
