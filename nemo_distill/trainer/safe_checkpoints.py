"""Checkpoints are written whole or not at all, and read as data: a training that was killed at any point resumes, and
runs nothing that a file in its folder was made to run.
"""

import collections
import io
import typing
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import omegaconf
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.archive_safety import TRUST, is_trusted
from nemo_distill.nemo_files.host_fixes import nemo_path
from nemo_distill.storage.files import remove_leftovers, whole_file
from nemo_distill.storage.ledger import sha256_of

_AN_ARRAY = np.zeros(1, np.uint32)  # as the states of random generators are
# What checkpoints hold besides tensors: configs and arrays. None of these runs what it is given.
DATA_CLASSES = (
    *(omegaconf.DictConfig, omegaconf.ListConfig, omegaconf.AnyNode),
    *(omegaconf.base.ContainerMetadata, omegaconf.base.Metadata),
    *(collections.defaultdict, typing.Any, dict, list, tuple, int, float, str, bool),
    *(_AN_ARRAY.__reduce__()[0], np.ndarray, np.dtype, type(_AN_ARRAY.dtype), type(np.dtype(np.float64))),
)

LAST = "-last.ckpt"  # what the name of the checkpoint to resume from ends with


class SafeCheckpointIO(TorchCheckpointIO):
    """Lightning's own, but for how it writes and what it accepts.

    A file whose SHA-256 is in `NEMO_DISTILL_TRUST` may hold anything.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint beside its place; Lightning copies it there from /tmp, not in one go."""
        if storage_options is not None:
            raise TypeError("SafeCheckpointIO takes no storage_options")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # into a file torch writes by itself, and does not say why it cannot
        torch.save(checkpoint, content)
        with whole_file(Path(path)) as stream:
            stream.write(content.getbuffer())

    def load_checkpoint(self, path: str | Path, map_location: Any = None) -> dict[str, Any]:
        """Returns what a checkpoint holds.

        Raises:
            ConfigurationError: if it holds more than data, or is damaged.
        """
        if not Path(path).is_file():
            return super().load_checkpoint(path, map_location)
        if is_trusted(Path(path)):  # Lightning before 2.4 leaves it to torch, which refuses
            return torch.load(path, map_location=map_location or "cpu", weights_only=False)
        try:
            with torch.serialization.safe_globals(list(DATA_CLASSES)):
                return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except UnpicklingError as error:
            raise ConfigurationError(
                [
                    f"'{path}' is not resumed from: it holds more than data, and reading it would run code; delete "
                    f"it, or if you trust its author, set {TRUST}={sha256_of(Path(path))}."
                ]
            ) from error
        except Exception as error:  # whatever torch stumbles over in a file that is damaged
            problem = f"'{path}' is not resumed from: it cannot be read: {error}; delete it."
            raise ConfigurationError([problem]) from error


def settle_checkpoints(folder: Path) -> None:
    """Leaves, of what a kill has left in a folder of checkpoints, one `-last.ckpt`: the latest.

    NeMo refuses to choose from two, one of which was about to be deleted, and one that still has its mark it takes for
    half written, though `SafeCheckpointIO` writes none but whole ones.
    """
    remove_leftovers(folder)
    for path in sorted(folder.glob(f"*{LAST}"), key=lambda path: path.stat().st_mtime_ns)[:-1]:
        path.unlink()
    for mark in folder.glob(f"*{LAST.removesuffix('.ckpt')}-unfinished"):
        mark.unlink()


def checkpoint_folder(section: Mapping[str, Any]) -> Path:
    """Where exp_manager puts the checkpoints of a training that may be resumed."""
    if chosen := (section.get("checkpoint_callback_params") or {}).get("dirpath"):
        return Path(chosen)
    named = Path(section.get("exp_dir") or "nemo_experiments", section.get("name") or "default")
    return Path(section.get("explicit_log_dir") or named / (section.get("version") or "")) / "checkpoints"


def complete_training(trainer: Any, model: Any) -> None:
    """Writes the `.nemo` of a training that was killed between its last checkpoint and that.

    Of a training that has done all of its steps Lightning restores the checkpoint, and does not come to its end again.
    """
    callback = trainer.checkpoint_callback
    if not getattr(callback, "save_nemo_on_train_end", False) or not Path(callback.last_model_path).is_file():
        return
    path = nemo_path(callback)
    if path.is_file() and path.stat().st_mtime_ns >= Path(callback.last_model_path).stat().st_mtime_ns:
        return
    if callback.save_best_model and callback.best_model_path:
        model.load_state_dict(trainer.strategy.load_checkpoint(callback.best_model_path)["state_dict"])
    model.save_to(str(path))
