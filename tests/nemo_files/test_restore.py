"""Weights that are not those of a `.nemo`'s config end in a sentence."""

import io
import tarfile

import pytest
import torch

from nemo_distill.config.errors import ConfigurationError


def test_weights_of_other_names_end_in_a_sentence(teacher_path, tmp_path):
    """As in a checkpoint of NeMo before 1.0, whose embeddings are modules of their own."""
    from nemo_distill import DistillableMTEncDecModel
    from nemo_distill.nemo_files.restore import restore_for_inference

    path = tmp_path / "old.nemo"
    with tarfile.open(teacher_path) as tar, tarfile.open(path, "w") as changed:
        for member in filter(tarfile.TarInfo.isfile, tar.getmembers()):
            content = tar.extractfile(member).read()
            if member.name.endswith("model_weights.ckpt"):
                weights = torch.load(io.BytesIO(content), weights_only=True)
                weights = {
                    name.replace("encoder._embedding", "encoder_embedding"): value for name, value in weights.items()
                }
                stream = io.BytesIO()
                torch.save(weights, stream)
                content = stream.getvalue()
                member.size = len(content)
            changed.addfile(member, io.BytesIO(content))
    with pytest.raises(
        ConfigurationError, match=r"old.nemo' is not opened: its weights do not fit its config: Missing key"
    ):
        restore_for_inference(DistillableMTEncDecModel, path)
    assert not DistillableMTEncDecModel._is_model_being_restored()
    with pytest.raises(RuntimeError):
        DistillableMTEncDecModel.restore_from(str(path), map_location="cpu")
    assert DistillableMTEncDecModel._is_model_being_restored()  # NeMo's fault: it would build models without data
    DistillableMTEncDecModel._set_model_restore_state(is_being_restored=False)
