"""What a user is told whose tokenizer needs youtokentome, where that optional package is not installed."""

import sys

import pytest

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.tokenizer_files import tokenizer_file_problems
from nemo_distill.nemo_files.translation_archive import archived_vocabulary
from nemo_distill.text.lines import LinePolicy
from nemo_distill.text.token_ids import MissingPackageError, load_tokenizer
from nemo_distill.text.tokenizer_training import TokenizerJob, TokenizerTraining, train_tokenizer
from tests.pseudo_labels.fakes import write_model

SENTENCE = (
    "'{}' needs youtokentome, which is not installed: pip install 'Cython<3.1' setuptools wheel, then "
    "pip install --no-build-isolation youtokentome"
)


@pytest.fixture
def model_file(monkeypatch, tmp_path):
    """A file that begins as those of youtokentome do."""
    monkeypatch.setitem(sys.modules, "youtokentome", None)
    path = tmp_path / "yttm.model"
    path.write_text("2 1\n97 4\n98 5\n4 5 6\n1 0 2 3\n")
    return path


def test_a_configs_tokenizer(model_file):
    problems = tokenizer_file_problems("model.encoder_tokenizer.tokenizer_model", str(model_file))
    assert problems == [f"model.encoder_tokenizer.tokenizer_model: {SENTENCE.format(model_file)}."]


def test_a_teachers_tokenizer(model_file, tmp_path):
    config = b"encoder_tokenizer: {tokenizer_model: 'nemo:yttm'}\n"
    path = write_model(tmp_path / "teacher.nemo", config, yttm=model_file.read_bytes())
    with pytest.raises(MissingPackageError) as told:
        archived_vocabulary(NemoArchive(path), "encoder")
    assert str(told.value) == SENTENCE.format(path)


def test_a_translation(model_file):
    with pytest.raises(ConfigurationError) as told:
        load_tokenizer(model_file, "yttm")
    assert told.value.problems == [f"{SENTENCE.format(model_file)}."]


def test_a_tokenizer_to_train(model_file, corpus, tmp_path):
    job = TokenizerJob(
        tmp_path / "own.model", [corpus / "train.de"], TokenizerTraining(library="yttm", vocab_size=50), LinePolicy()
    )
    with pytest.raises(DataError) as told:
        train_tokenizer(job)
    assert str(told.value).endswith(SENTENCE.format(job.model))


def test_a_model_that_nemo_builds(model_file):
    from nemo_distill import DistillableMTEncDecModel
    from tests.conftest import tiny_config

    with pytest.raises(ConfigurationError) as told:
        DistillableMTEncDecModel(tiny_config(model_file))
    assert told.value.problems == [f"{SENTENCE.format(model_file)}."]
