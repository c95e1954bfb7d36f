import os

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill.core.archive_safety import TRUST
from nemo_distill.core.config import ConfigurationError
from nemo_distill.core.safe_checkpoints import SafeCheckpointIO
from nemo_distill.data.output_files import sha256_of


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_what_trainings_write_is_read(tmp_path):
    checkpoint = {
        "state_dict": {"weight": torch.arange(3.0)},
        "hyper_parameters": OmegaConf.create({"model": {"layers": [1, 2], "name": None}}),
        "rng": (3, np.random.RandomState(0).get_state()[1], np.ones(2)),
        "step": 5,
    }
    SafeCheckpointIO().save_checkpoint(checkpoint, tmp_path / "step.ckpt")
    found = SafeCheckpointIO().load_checkpoint(tmp_path / "step.ckpt")
    assert torch.equal(found["state_dict"]["weight"], torch.arange(3.0))
    assert found["hyper_parameters"] == checkpoint["hyper_parameters"] and found["step"] == 5
    assert np.array_equal(found["rng"][1], checkpoint["rng"][1])


def test_code_in_a_checkpoint_is_not_run_unless_the_file_is_trusted(tmp_path, monkeypatch):
    path, harm = tmp_path / "evil.ckpt", tmp_path / "harm"
    torch.save({"state_dict": Harm(harm)}, path)
    with pytest.raises(ConfigurationError, match="it holds more than data, and reading it would run code; delete it"):
        SafeCheckpointIO().load_checkpoint(path)
    assert not harm.exists()
    monkeypatch.setenv(TRUST, sha256_of(path))
    SafeCheckpointIO().load_checkpoint(path)
    assert harm.exists()
