"""What a section `distillation` may hold, and how its losses and widths are read."""

import pytest

from nemo_distill.commands.training_check import check_distillation_job
from nemo_distill.models.distillation_section import (
    TranslationDistillation,
    distillation_losses,
    read_distillation,
    registered_widths,
)
from tests.models.conftest import TINY, problems


def test_the_triple_loss_has_every_subset_of_its_terms(job):
    weights = ("distillation_loss_weight", "student_train_loss_weight", "cosine_loss_weight")
    for off in weights:
        check_distillation_job(job("distillation=triple", f"model.distillation.{off}=0", *TINY))
    found = problems(
        check_distillation_job, job("distillation=triple", *(f"model.distillation.{key}=0" for key in weights))
    )
    assert found == ["model.distillation has no loss with a weight above 0, so there is nothing to train on."]


def test_of_several_teachers_only_distributions_are_read_and_the_check_says_so(job, teacher_path):
    two = f"model.distillation.model_path=[{teacher_path},{teacher_path}]"
    check_distillation_job(job(two, "distillation=word_level", *TINY))
    (found,) = problems(check_distillation_job, job(two, "distillation=triple", *TINY))
    assert "loss.cosine reads the teacher's 'decoder_hidden_states'" in found and "with 2 teachers only" in found


def test_distilling_the_encoder_too_adds_the_cosine_of_its_states():
    node = {"weight": 2, "hidden_states": "decoder_hidden_states"}
    found = distillation_losses(TranslationDistillation(distill_encoder=True, loss={"cosine": node}))
    assert found == {"cosine": node, "cosine_encoder": {**node, "hidden_states": "encoder_hidden_states"}}
    assert distillation_losses(TranslationDistillation(loss={"cosine": node})) == {"cosine": node}


def test_a_given_loss_that_distilling_the_encoder_would_replace_is_told():
    losses = {"cosine": {"_target_": "x"}, "cosine_encoder": {"_target_": "y"}}
    _, (problem,) = read_distillation({"distillation": {"distill_encoder": True, "loss": losses}}, "distillation")
    assert problem.startswith("distillation.distill_encoder=true") and "loss.cosine_encoder" in problem
    for allowed in ({"loss": losses}, {"distill_encoder": True, "loss": {"cosine": {"_target_": "x"}}}):
        assert read_distillation({"distillation": allowed}, "distillation")[1] == []


def test_a_loss_on_the_encoders_states_is_not_repeated_by_distilling_the_encoder_too():
    section = {"distill_encoder": True, "loss": {"cosine": {"_target_": "x", "hidden_states": "encoder_layers"}}}
    _, (problem,) = read_distillation({"distillation": section}, "distillation")
    assert "distill_encoder=true" in problem and "loss.cosine.hidden_states=encoder_layers" in problem


def test_distilling_the_encoder_too_needs_the_loss_that_it_repeats():
    _, (problem,) = read_distillation({"distillation": {"distill_encoder": True}}, "distillation")
    assert problem.startswith("distillation.distill_encoder=true") and "loss.cosine" in problem


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"initialization": {"prune_width": True}}, "initialization.prune_width=true has no effect"),
        ({"initialization": {"decoder": [1]}}, "initialization.decoder=[1] has no effect"),
        ({"initialization": {"embeddings": False}}, "initialization.embeddings=false has no effect"),
        (
            {
                "distilbert_initialization": True,
                "initialization": {"encoder": None, "decoder": None, "embeddings": False},
            },
            "distilbert_initialization=true copies nothing",
        ),
        ({"teacher_cache_tail": "uniform"}, "teacher_cache_tail=uniform has no effect"),
    ],
)
def test_a_key_that_depends_on_one_that_is_off_is_told(values, sentence):
    (problem,) = read_distillation({"distillation": values}, "distillation")[1]
    assert problem.startswith(f"distillation.{sentence}")


def test_widths_count_the_embeddings_as_a_layer_and_the_heads_by_layer():
    sizes = {"hidden_size": 16, "num_layers": 2, "num_attention_heads": 4}
    found = registered_widths({"encoder": {**sizes, "num_layers": 1}, "decoder": sizes})
    assert found == {
        "encoder_hidden_states": [16],
        "encoder_layers": [16, 16],
        "encoder_self_attention": [4],
        "decoder_hidden_states": [16],
        "decoder_layers": [16, 16, 16],
        "decoder_self_attention": [4, 4],
        "decoder_cross_attention": [4, 4],
    }


def test_the_widths_of_a_pretrained_encoder_are_left_open():
    sizes = {"hidden_size": 16, "num_layers": 2, "num_attention_heads": 4}
    assert registered_widths({"encoder": {"model_name": "bert"}, "decoder": sizes}) == {}
