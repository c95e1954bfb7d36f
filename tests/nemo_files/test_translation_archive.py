import io
import tarfile

import pytest

from nemo_distill.nemo_files.tokenizer_files import read_vocabulary
from nemo_distill.nemo_files.translation_archive import archived_vocabulary, translation_archive


def test_the_vocabulary_in_an_archive_is_that_of_its_tokenizer(teacher_path, tokenizer):
    assert archived_vocabulary(translation_archive(teacher_path), "encoder") == read_vocabulary(tokenizer)


def test_an_archive_of_another_model_is_refused_by_its_class(tmp_path):
    config = b"target: nemo.collections.asr.models.EncDecCTCModel\n"
    with tarfile.open(tmp_path / "asr.nemo", "w") as tar:
        info = tarfile.TarInfo("model_config.yaml")
        info.size = len(config)
        tar.addfile(info, io.BytesIO(config))
    with pytest.raises(ValueError, match=r"EncDecCTCModel' instead of an MTEncDecModel"):
        translation_archive(tmp_path / "asr.nemo")
