"""A start from another model, with `init_from_nemo_model`, is refused where its weights would mean something else."""

import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill import ConfigurationError, DistillableMTEncDecModel
from nemo_distill.commands.training import start_from_nemo
from nemo_distill.commands.training_check import check_distillation_job, check_training
from nemo_distill.models.start_model import KEY, weight_problems
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary
from tests.commands.test_training_check import START
from tests.conftest import tiny_config, train_sentencepiece
from tests.models.conftest import problems, with_tokenizers


@pytest.fixture(scope="module")
def twin_tokenizer(tokenizer, tmp_path_factory):
    """A tokenizer of as many pieces as `tokenizer` and the same special ids: of its text with two letters exchanged."""
    folder = tmp_path_factory.mktemp("twin")
    text = (tokenizer.parent / "both.txt").read_text(encoding="utf-8").translate(str.maketrans("es", "se"))
    (folder / "text").write_text(text, encoding="utf-8")
    return train_sentencepiece(folder / "twin", folder / "text")


@pytest.fixture(scope="module")
def twin_path(twin_tokenizer):
    torch.manual_seed(2)
    path = twin_tokenizer.parent / "twin.nemo"
    DistillableMTEncDecModel(tiny_config(twin_tokenizer)).save_to(str(path))
    return path


def test_the_twin_has_as_many_pieces_and_the_same_special_ids(tokenizer, twin_tokenizer):
    ours, theirs = read_vocabulary(tokenizer), read_vocabulary(twin_tokenizer)
    assert len(ours.pieces) == len(theirs.pieces) and ours.special_ids == theirs.special_ids
    assert ours.pieces != theirs.pieces


def test_another_vocabulary_of_the_same_size_is_told(job, tokenizer, twin_path, twin_tokenizer):
    training = [*START, "model.shared_embeddings=true", f"{KEY}={twin_path}"]
    check_training(job(*training, *with_tokenizers(twin_tokenizer), name="aayn_base"))
    found = problems(check_training, job(*training, *with_tokenizers(tokenizer), name="aayn_base"))
    assert len(found) == 2
    for side, problem in zip(("encoder", "decoder"), found):
        assert f"model.{side}_tokenizer has different pieces" in problem and KEY in problem


def test_another_vocabulary_than_the_teachers_is_told(job, twin_path):
    """The student takes its tokenizers from the teacher."""
    found = problems(check_distillation_job, job(*START, f"{KEY}={twin_path}"))
    assert len(found) == 2 and all("(the teacher's) has different pieces" in problem for problem in found)


def test_two_sources_of_the_first_weights_are_told_by_their_keys(job, twin_path):
    key = "model.distillation.distilbert_initialization"
    found = problems(check_distillation_job, job(*START, f"{key}=true", f"{KEY}={twin_path}"))
    assert f"{KEY} and {key} both set the initial weights; use only one of them." in found


def test_a_tokenizer_that_would_be_trained_is_told(job, teacher_path, tmp_path):
    sizes = [f"model.{side}_tokenizer.vocab_size=60" for side in ("encoder", "decoder")]
    found = problems(
        check_training,
        job(*START, *sizes, f"model.preproc_out_dir={tmp_path}", f"{KEY}={teacher_path}", name="aayn_base"),
    )
    assert len(found) == 2 and all("preproc_out_dir would train" in problem and KEY in problem for problem in found)


def test_the_models_themselves_are_compared_too(tokenizer, twin_path):
    model = DistillableMTEncDecModel(tiny_config(tokenizer))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(ConfigurationError, match="different pieces"):
        start_from_nemo(OmegaConf.create({KEY: str(twin_path)}), model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


STACK = {"hidden_size": 16, "inner_size": 32, "num_attention_heads": 2, "num_layers": 2}


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        ({"mask_future": False}, {}, ["encoder.mask_future=True"]),
        ({"mask_future": False}, {"mask_future": True}, ["encoder.mask_future=True"]),
        ({"pre_ln": True, "pre_ln_final_layer_norm": True}, {"pre_ln": True}, [f"{side}.pre_ln_final_layer_norm=None" for side in ("encoder", "decoder")]),
        ({"pre_ln_final_layer_norm": True}, {}, []),
        ({"hidden_act": "relu", "num_token_types": 2, "max_sequence_length": 512, "library": "nemo"}, {}, []),
        ({"num_token_types": 0}, {}, ["encoder.num_token_types=2", "decoder.num_token_types=2"]),
        ({"max_sequence_length": 64}, {}, ["encoder.max_sequence_length=512", "decoder.max_sequence_length=512"]),
    ],
)  # fmt: skip
def test_keys_that_are_missing_have_nemos_defaults(ours, theirs, found):
    model, start = ({"encoder": STACK | stack, "decoder": STACK | stack} for stack in (ours, theirs))
    sentences = weight_problems(model, start, "x.nemo")
    assert [sentence.split("has ")[1].split(",")[0] for sentence in sentences] == found


@pytest.mark.parametrize(
    ("ours", "theirs", "refused"), [(True, False, True), (True, None, True), (False, True, False), (True, True, False)]
)
def test_one_matrix_of_embeddings_does_not_start_from_two(ours, theirs, refused):
    stacks = {"encoder": STACK, "decoder": STACK}
    found = weight_problems(stacks | {"shared_embeddings": ours}, stacks | {"shared_embeddings": theirs}, "x.nemo")
    assert bool(found) == refused
    assert all(word in sentence for sentence in found for word in (KEY, "x.nemo", "model.shared_embeddings=false"))
