"""The random state in checkpoints, which a stranger may have written."""

import random

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.trainer.exact_resume import ExactResumeCallback, _restore_random_state
from nemo_distill.trainer.safe_checkpoints import SafeCheckpointIO


def through_a_file(state, folder):
    SafeCheckpointIO().save_checkpoint(state, folder / "a.ckpt")
    return SafeCheckpointIO().load_checkpoint(folder / "a.ckpt")


def drawn():
    return random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()


@pytest.mark.parametrize("earlier", [False, True])
def test_random_numbers_go_on_after_a_checkpoint_of_this_and_of_earlier_versions(earlier, tmp_path):
    np.random.randn()  # draws two, and keeps one
    state = ExactResumeCallback().state_dict()
    if earlier:
        state["states"][0]["numpy"] = np.random.get_state()
    expected = drawn()
    callback = ExactResumeCallback()
    callback.load_state_dict(through_a_file(state, tmp_path))
    _restore_random_state(callback._to_restore[0])
    assert drawn() == expected


def test_checkpoints_hold_no_arrays_of_numpy():
    (state,) = ExactResumeCallback().state_dict()["states"]
    assert [type(part) for part in state["numpy"]] == [str, torch.Tensor, int, int, float]


@pytest.mark.parametrize(("processes", "warned"), [(1, 0), (2, 1)])
def test_another_number_of_processes_is_warned_of(processes, warned, caplog):
    callback = ExactResumeCallback()
    callback.load_state_dict({"states": ExactResumeCallback().state_dict()["states"] * processes})
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    callback.on_train_batch_start(trainer, pl.LightningModule(), None, 0)
    assert ["written by 2 processes and is resumed by 1" in message for message in caplog.messages] == [True] * warned


WORDS = torch.ones(624, dtype=torch.int64)


@pytest.mark.parametrize(
    "state",
    [
        ("MT19937", WORDS, 1 << 30, 0, 0.0),
        ("MT19937", WORDS, -1, 0, 0.0),
        ("MT19937", WORDS, 1.0, 0, 0.0),
        ("MT19937", WORDS[:600], 5, 0, 0.0),
        ("MT19937", -WORDS, 5, 0, 0.0),
        ("MT19937", WORDS.float(), 5, 0, 0.0),
        ("MT19937", WORDS, 5, 0, "0"),
        ("PCG64", WORDS, 5, 0, 0.0),
        ("MT19937", ["1"] * 624, 5, 0, 0.0),
        {"state": None},
        None,
    ],
)
def test_a_state_that_numpy_would_read_out_of_bounds_is_refused(state):
    saved = ExactResumeCallback().state_dict()
    saved["states"][0]["numpy"] = state
    with pytest.raises(ConfigurationError, match="random state of numpy"):
        ExactResumeCallback().load_state_dict(saved)
