import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.archive_safety import TRUST
from nemo_distill.storage.ledger import sha256_of
from nemo_distill.trainer.safe_checkpoints import (
    SafeCheckpointIO,
    checkpoint_folder,
    complete_training,
    settle_checkpoints,
)
from tests.conftest import Harm


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
    with pytest.raises(
        ConfigurationError, match="it contains more than data, and loading it would run code; delete it"
    ):
        SafeCheckpointIO().load_checkpoint(path)
    assert not harm.exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigurationError, match="it contains more than data"):
        SafeCheckpointIO().load_checkpoint("~/evil.ckpt")
    with pytest.raises(ConfigurationError, match="there is no such file"):
        SafeCheckpointIO().load_checkpoint(f"file://{path}")
    assert not harm.exists()
    monkeypatch.setenv(TRUST, sha256_of(path))
    SafeCheckpointIO().load_checkpoint(path)
    assert harm.exists()


def saved(folder, **state):
    folder.mkdir(exist_ok=True)
    SafeCheckpointIO().save_checkpoint({"callbacks": {"ModelCheckpoint": state}}, folder / "a.ckpt")
    return SafeCheckpointIO().load_checkpoint(folder / "a.ckpt")


@pytest.mark.parametrize("where", ["{}/precious", "local://{}/run/a.ckpt", "{}/run/../b.ckpt", "file::{}/run/a.ckpt"])
@pytest.mark.parametrize("key", ["best_model_path", "last_model_path", "kth_best_model_path", "best_k_models"])
def test_a_checkpoint_that_names_paths_outside_its_folder_is_refused(where, key, tmp_path):
    path = where.format(tmp_path)
    state = {key: {path: torch.tensor(1.0)} if key == "best_k_models" else path}
    for dirpath in ({}, {"dirpath": None}, {"dirpath": str(tmp_path / "run")}, {"dirpath": "local:///"}):
        with pytest.raises(ConfigurationError) as error:
            saved(tmp_path / "run", **state, **dirpath)
        assert path in str(error.value)


def test_a_folder_that_was_moved_or_is_reached_by_a_link_is_resumed(tmp_path):
    for folder in ("run", "elsewhere"):
        named = str(tmp_path / folder / "b.ckpt")
        state = {
            "dirpath": str(tmp_path / folder),
            "best_model_path": named,
            "last_model_path": "",
            "best_k_models": {named: 1.0},
        }
        assert saved(tmp_path / "run", **state)["callbacks"]["ModelCheckpoint"] == state
    (tmp_path / "link").symlink_to(tmp_path / "run")
    assert SafeCheckpointIO().load_checkpoint(tmp_path / "link" / "a.ckpt")


def test_only_checkpoints_are_deleted(tmp_path):
    (tmp_path / "folder.ckpt").mkdir()
    (tmp_path / "folder.ckpt" / "precious").touch()
    for name in ("a.ckpt", "b.ckpt", "notes.txt"):
        (tmp_path / name).touch()
    for path in ("folder.ckpt", "notes.txt", "folder.ckpt/../a.ckpt"):
        with pytest.raises(ConfigurationError, match="is not deleted"):
            SafeCheckpointIO().remove_checkpoint(tmp_path / path)
    with pytest.raises(ConfigurationError, match="is not deleted"):
        SafeCheckpointIO().remove_checkpoint(f"local://{tmp_path}/a.ckpt")
    SafeCheckpointIO().remove_checkpoint(str(tmp_path / "b.ckpt"))
    SafeCheckpointIO().remove_checkpoint(tmp_path / "b.ckpt")  # gone already
    assert {path.name for path in tmp_path.iterdir()} == {"a.ckpt", "folder.ckpt", "notes.txt"}


def test_of_two_last_checkpoints_the_later_is_left_without_its_mark(tmp_path):
    for name, age in (("step=4-last.ckpt", 20), ("step=8-last.ckpt", 10), ("step=4.ckpt", 30)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    for name in ("step=8-last-unfinished", "step=4-unfinished", ".step=12-last.ckpt.0123456789ab.tmp"):
        (tmp_path / name).touch()
    settle_checkpoints(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"step=8-last.ckpt", "step=4.ckpt", "step=4-unfinished"}


def test_a_folder_that_holds_no_checkpoints_or_is_not_there_is_left_alone(tmp_path):
    settle_checkpoints(tmp_path)
    settle_checkpoints(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("section", "folder"),
    [
        ({}, "nemo_experiments/default/checkpoints"),
        ({"exp_dir": "runs", "name": "student", "version": "3"}, "runs/student/3/checkpoints"),
        ({"exp_dir": "runs", "name": "student", "version": None}, "runs/student/checkpoints"),
        ({"explicit_log_dir": "here", "exp_dir": "runs"}, "here/checkpoints"),
        ({"explicit_log_dir": "here", "checkpoint_callback_params": {"dirpath": "there"}}, "there"),
        ({"explicit_log_dir": "here", "checkpoint_callback_params": {"dirpath": None}}, "here/checkpoints"),
    ],
)
def test_checkpoints_are_looked_for_where_exp_manager_puts_them(section, folder):
    assert checkpoint_folder(OmegaConf.create(section)) == Path(folder)


class Weights:
    """A model of one number, which is what its `.nemo` holds."""

    def __init__(self):
        self.value = "last"

    def load_state_dict(self, state):
        self.value = state["value"]

    def save_to(self, path):
        Path(path).write_text(self.value)


@pytest.fixture
def ended(tmp_path):
    """A trainer that has done its steps; its last checkpoint was written, and of its `.nemo` what a test says."""
    last, best, whole = (tmp_path / name for name in ("a-last.ckpt", "a.ckpt", "a.nemo"))
    last.touch()
    os.utime(last, (1e9, 1e9))
    callback = SimpleNamespace(
        save_nemo_on_train_end=True,
        save_best_model=False,
        last_model_path=str(last),
        best_model_path=str(best),
        _format_nemo_checkpoint_name=lambda: str(whole),
    )
    loaded = {str(best): {"state_dict": {"value": "best"}}}
    return SimpleNamespace(checkpoint_callback=callback, strategy=SimpleNamespace(load_checkpoint=loaded.get))


@pytest.mark.parametrize(("save_best", "written"), [(False, "last"), (True, "best")])
def test_a_training_that_was_killed_after_its_last_step_still_gets_its_model(ended, tmp_path, save_best, written):
    ended.checkpoint_callback.save_best_model = save_best
    complete_training(ended, Weights())
    assert (tmp_path / "a.nemo").read_text() == written


@pytest.mark.parametrize(("seconds", "kept"), [(-1, False), (0, True), (1, True)])
def test_only_a_model_that_is_older_than_the_last_checkpoint_is_written_anew(ended, tmp_path, seconds, kept):
    (tmp_path / "a.nemo").write_text("there")
    os.utime(tmp_path / "a.nemo", (1e9 + seconds, 1e9 + seconds))
    complete_training(ended, Weights())
    assert (tmp_path / "a.nemo").read_text() == ("there" if kept else "last")


@pytest.mark.parametrize(("save_best", "tested"), [(False, "last"), (True, "best")])
def test_a_training_without_steps_left_has_the_weights_of_the_model_that_it_wrote(ended, tmp_path, save_best, tested):
    (tmp_path / "a.nemo").write_text("there")
    ended.checkpoint_callback.save_best_model = save_best
    complete_training(ended, model := Weights())
    assert model.value == tested and (tmp_path / "a.nemo").read_text() == "there"


def test_a_training_without_checkpoints_or_without_models_gets_none(ended, tmp_path):
    complete_training(SimpleNamespace(checkpoint_callback=None), Weights())
    ended.checkpoint_callback.save_nemo_on_train_end = False
    complete_training(ended, Weights())
    ended.checkpoint_callback.save_nemo_on_train_end = True
    (tmp_path / "a-last.ckpt").unlink()
    complete_training(ended, Weights())
    assert not (tmp_path / "a.nemo").exists()
