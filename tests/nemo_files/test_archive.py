"""A `.nemo` is read as what it is, and what is wrong with it ends in a sentence."""

import hashlib
import tarfile

import numpy as np
import pytest

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.tokenizer_files import read_vocabulary
from nemo_distill.nemo_files.translation_archive import archived_vocabulary, translation_archive
from tests.conftest import changed_weights
from tests.pseudo_labels.fakes import write_model


def test_it_reads_config_artifacts_and_hash(teacher_path, tokenizer, tmp_path):
    archive = NemoArchive(teacher_path)
    assert archive.config.target.endswith("MTEncDecModel")
    extracted = archive.extract_artifact(archive.config.encoder_tokenizer.tokenizer_model, tmp_path)
    assert extracted.read_bytes() == tokenizer.read_bytes()
    assert archive.sha256() == hashlib.sha256(teacher_path.read_bytes()).hexdigest()


def test_a_copy_without_weights_has_all_else(teacher_path, tokenizer, tmp_path):
    path = tmp_path / "copy.nemo"
    with path.open("wb") as stream:
        NemoArchive(teacher_path).copy_without_weights(stream)
    copy = NemoArchive(path)
    assert copy.config == NemoArchive(teacher_path).config
    extracted = copy.extract_artifact(copy.config.encoder_tokenizer.tokenizer_model, tmp_path)
    assert extracted.read_bytes() == tokenizer.read_bytes()
    with tarfile.open(path) as tar:
        assert not any("weights" in name for name in tar.getnames())


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        NemoArchive(tmp_path / "none.nemo")
    with pytest.raises(ValueError, match="' is a folder; it must be a .nemo$"):
        NemoArchive(tmp_path)


def test_a_file_that_is_no_archive_is_told(tmp_path):
    path = tmp_path / "text.nemo"
    path.write_text("text")
    with pytest.raises(ValueError, match="is not a .nemo file"):
        NemoArchive(path)


def test_a_model_of_marian_itself_is_told_with_what_can_be_done(tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, weight=np.zeros(1))
    with pytest.raises(ValueError, match=r"model\.npz' is not a \.nemo file.*Hugging Face folder.*engine=file"):
        NemoArchive(path)


def test_an_archive_without_a_model_is_told(tmp_path):
    path = tmp_path / "empty.nemo"
    tarfile.open(path, "w").close()
    with pytest.raises(ValueError, match="has no model_config.yaml"):
        NemoArchive(path)


def test_the_vocabulary_in_an_archive_is_that_of_its_tokenizer(teacher_path, tokenizer):
    assert archived_vocabulary(translation_archive(teacher_path), "encoder") == read_vocabulary(tokenizer)


def test_an_archive_of_another_model_is_refused_by_its_class(tmp_path):
    path = write_model(tmp_path / "asr.nemo", content=b"target: nemo.collections.asr.models.EncDecCTCModel\n")
    with pytest.raises(ValueError, match=r"EncDecCTCModel' instead of an MTEncDecModel"):
        translation_archive(path)


def test_weights_of_other_names_end_in_a_sentence(teacher_path, tmp_path):
    """As in a checkpoint of NeMo before 1.0, whose embeddings are modules of their own."""
    from nemo_distill import DistillableMTEncDecModel
    from nemo_distill.nemo_files.restore import restore_for_inference

    path = changed_weights(
        teacher_path,
        tmp_path / "old.nemo",
        lambda weights: {name.replace("encoder._embedding", "encoder_embedding"): weights[name] for name in weights},
    )
    with pytest.raises(
        ConfigurationError, match=r"old.nemo' is not opened: its weights do not fit its config: Missing key"
    ):
        restore_for_inference(DistillableMTEncDecModel, path)
    assert not DistillableMTEncDecModel._is_model_being_restored()
    with pytest.raises(RuntimeError):
        DistillableMTEncDecModel.restore_from(str(path), map_location="cpu")
    assert DistillableMTEncDecModel._is_model_being_restored()  # NeMo's fault: it would build models without data
    DistillableMTEncDecModel._set_model_restore_state(is_being_restored=False)
