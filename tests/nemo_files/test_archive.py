import hashlib
import tarfile

import pytest

from nemo_distill.nemo_files.archive import NemoArchive


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


def test_a_file_that_is_no_archive_is_told(tmp_path):
    path = tmp_path / "text.nemo"
    path.write_text("text")
    with pytest.raises(ValueError, match="is not a .nemo file"):
        NemoArchive(path)


def test_an_archive_without_a_model_is_told(tmp_path):
    path = tmp_path / "empty.nemo"
    tarfile.open(path, "w").close()
    with pytest.raises(ValueError, match="has no model_config.yaml"):
        NemoArchive(path)
