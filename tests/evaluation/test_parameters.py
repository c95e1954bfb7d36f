import pytest
from omegaconf import OmegaConf

from nemo_distill.evaluation.parameters import archive_parameters, count_parameters
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.hugging_face_folder import HuggingFaceFolder
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary
from tests.conftest import SCRIPTS, tiny_config, train_sentencepiece
from tests.hugging_face_folders import write_folder

SHAPES = {
    "tied": {},
    "untied": {"shared_embeddings": False},
    "no token types": {"encoder.num_token_types": 0},
    "learned positions": {"encoder.learn_positional_encodings": True, "decoder.max_sequence_length": 32},
    "pre_ln": {"encoder.pre_ln": True, "decoder.pre_ln": True},
    "without a final norm": {"decoder.pre_ln": True, "decoder.pre_ln_final_layer_norm": False},
    "uneven": {"encoder.num_layers": 3, "encoder.inner_size": 48, "decoder.num_layers": 2, "head.num_layers": 2},
}


def instantiated(config):
    """All parameters of the model that NeMo builds, and those of its embedding layers."""
    import torch
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    model = MTEncDecModel(config)
    embeddings = {layer.weight for layer in model.modules() if isinstance(layer, torch.nn.Embedding)}
    return [sum(parameter.numel() for parameter in group) for group in (model.parameters(), embeddings)]


def counted(config):
    pieces = [
        len(read_vocabulary(config[f"{side}_tokenizer"].tokenizer_model).pieces) for side in ("encoder", "decoder")
    ]
    count = count_parameters(OmegaConf.to_container(config), *pieces)
    return [count.total, count.embeddings]


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_the_count_is_that_of_the_model_that_nemo_builds(tokenizer, changes):
    config = tiny_config(tokenizer)
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    assert counted(config) == instantiated(config)


def test_two_vocabularies_of_different_size_are_counted(corpus, tokenizer):
    config = tiny_config(tokenizer)
    english = train_sentencepiece(corpus / "counted", corpus / "train.en", vocab_size=45)
    config.merge_with({"shared_embeddings": False, "decoder_tokenizer": {"tokenizer_model": str(english)}})
    assert counted(config) == instantiated(config)


def test_a_final_norm_that_the_config_does_not_name_is_not_counted(tokenizer):
    config = tiny_config(tokenizer, seed_size={"pre_ln": True})
    del config.encoder["pre_ln_final_layer_norm"]
    assert counted(config) == instantiated(config)


def test_a_student_of_the_study_is_counted_exactly(tokenizer):
    config = OmegaConf.merge(tiny_config(tokenizer), OmegaConf.load(SCRIPTS / "conf" / "student" / "slim_3x3.yaml"))
    assert counted(config) == instantiated(config)


def test_an_archive_tells_its_count_without_its_weights(teacher_path, tokenizer):
    assert archive_parameters(NemoArchive(teacher_path)).total == counted(tiny_config(tokenizer))[0]


@pytest.mark.parametrize(
    "change", [{"multilingual": True}, {"encoder": {"library": "huggingface", "hidden_size": 16}}]
)
def test_what_the_config_does_not_tell_is_not_guessed(tokenizer, change):
    config = OmegaConf.merge(tiny_config(tokenizer), change)
    assert count_parameters(config, 60, 60) is None


def test_a_caches_copy_of_a_hugging_face_model_has_no_count(corpus, tmp_path):
    folder = HuggingFaceFolder(write_folder("nllb", tmp_path / "nllb", corpus))
    with (tmp_path / "teacher.nemo").open("wb") as stream:
        folder.copy_without_weights(stream)
    assert archive_parameters(folder) is not None
    assert archive_parameters(NemoArchive(tmp_path / "teacher.nemo")) is None
