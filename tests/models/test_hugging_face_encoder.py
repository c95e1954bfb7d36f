"""A NeMo model whose encoder is one of Hugging Face, as teacher and as student."""

import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel
from nemo_distill.decoding.engines import load_engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.models.start_model import KEY, start_problems
from nemo_distill.nemo_files.restore import restore_for_inference
from nemo_distill.nemo_files.translation_archive import translation_archive
from tests.conftest import tiny_config
from tests.models.conftest import three_steps

BERT = {
    "encoder": {
        "library": "huggingface", "_target_": "transformers.BertConfig", "hidden_size": 16, "num_attention_heads": 2,
        "num_hidden_layers": 1, "intermediate_size": 32, "max_position_embeddings": 40,
    },
    "shared_embeddings": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def bert_path(tokenizer, tmp_path_factory):
    """The path of an untrained model with a tiny BERT as its encoder."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("bert") / "bert.nemo"
    DistillableMTEncDecModel(OmegaConf.merge(tiny_config(tokenizer), BERT)).save_to(str(path))
    return path


@pytest.mark.parametrize("student_is_bert", [False, True])
def test_it_teaches_and_learns_distributions_and_hidden_states(
    distillation_config, bert_path, tmp_path, student_is_bert
):
    config = OmegaConf.merge(distillation_config, BERT if student_is_bert else {})
    config.distillation.model_path = str(bert_path)
    model, trainer = three_steps(config, tmp_path)
    trainer.fit(model)
    assert {"primary", "cosine", "cosine_encoder", "student"} == set(model.step_losses)
    assert all(torch.isfinite(loss) for loss in model.step_losses.values())
    path = tmp_path / "student.nemo"
    model.save_to(str(path))
    (one,) = load_engine("nemo_distill", [path]).translate(["der Hund"], SearchSettings())
    assert len(one.hypotheses) == 1


def test_it_translates_and_cuts_at_its_own_positions(bert_path):
    assert translation_archive(bert_path).config.encoder.library == "huggingface"
    engine = load_engine("nemo_distill", [bert_path])
    short, long = engine.translate(["der Hund", "Hund " * 60], SearchSettings(max_delta=2))
    assert (short.source_cut, long.source_cut) == (False, True)


def started_from(path, tokenizer, **changes):
    """Returns the problems that are told before the training, and a model that starts with the weights of `path`."""
    config = OmegaConf.merge(tiny_config(tokenizer), BERT, {"encoder": changes})
    model = DistillableMTEncDecModel(config)
    found = start_problems(OmegaConf.to_container(config, resolve=True), str(path))
    start = restore_for_inference(DistillableMTEncDecModel, path)
    if found:
        with pytest.raises(ConfigurationError) as error:
            model.start_from(start, str(path))
        assert error.value.problems == found
    else:
        model.start_from(start, str(path))
        assert all(torch.equal(weight, start.state_dict()[name]) for name, weight in model.state_dict().items())
    return found


@pytest.mark.parametrize(
    ("key", "value", "theirs"),
    [
        ("num_hidden_layers", 2, 1), ("intermediate_size", 64, 32), ("max_position_embeddings", 60, 40),
        ("type_vocab_size", 3, None), ("position_embedding_type", "relative_key", None), ("num_attention_heads", 4, 2),
        ("hidden_act", "gelu", "relu"), ("_target_", "transformers.ElectraConfig", "transformers.BertConfig"),
    ],
)  # fmt: skip
def test_a_start_from_an_encoder_of_another_shape_is_refused(bert_path, tokenizer, key, value, theirs):
    (problem,) = started_from(bert_path, tokenizer, **{key: value})
    assert all(said in problem for said in (KEY, str(bert_path), f"encoder.{key}={theirs}", f"has {value}"))


@pytest.mark.parametrize("changes", [{}, {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.0}])
def test_a_start_from_an_encoder_of_the_same_shape_takes_its_weights(bert_path, tokenizer, changes):
    assert not started_from(bert_path, tokenizer, **changes)
