"""Writes checkpoints atomically and loads them without running code.

A training that was killed at any time can be resumed, and loading a manipulated checkpoint cannot run code.
"""

import collections
import io
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import omegaconf
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.archive_safety import TRUST, is_trusted
from nemo_distill.nemo_files.host_fixes import nemo_path
from nemo_distill.nemo_files.saved_arrays import ARRAYS, only_allowed, with_arrays
from nemo_distill.storage.files import remove_leftovers, user_path, whole_file
from nemo_distill.storage.ledger import sha256_of

# Types that checkpoints contain besides tensors: configs, and in those of earlier versions, arrays. Loading these runs
# no code.
DATA_CLASSES = (
    *(omegaconf.DictConfig, omegaconf.ListConfig, omegaconf.AnyNode),
    *(omegaconf.base.ContainerMetadata, omegaconf.base.Metadata),
    *(collections.defaultdict, typing.Any, dict, list, tuple, int, float, str, bool),
    *ARRAYS,
)

PATH_KEYS = ("best_model_path", "last_model_path", "kth_best_model_path")  # in the states of ModelCheckpoint
LAST = "-last.ckpt"  # the name of the checkpoint to resume from ends with this


class SafeCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint I/O with atomic writing and safe loading.

    A file whose SHA-256 is in `NEMO_DISTILL_TRUST` may contain any objects.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes to a temporary file in the same folder. Lightning copies from /tmp instead, which is not atomic."""
        if storage_options is not None:
            raise TypeError("SafeCheckpointIO takes no storage_options")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # if torch writes to the file directly, its errors hide the reason
        torch.save(checkpoint, content)
        with whole_file(Path(path)) as stream:
            stream.write(content.getbuffer())

    def load_checkpoint(self, path: str | Path, map_location: Any = None) -> dict[str, Any]:
        """Returns the content of a checkpoint.

        Raises:
            ConfigurationError: if it contains objects other than data, is damaged, or is no file. Lightning would find
                files elsewhere too, and would run their code.
        """
        path = user_path(path)
        if not path.is_file():
            raise ConfigurationError([f"'{path}' cannot be resumed: there is no such file."])
        if is_trusted(path):  # Lightning before 2.4 uses torch's default, which rejects such files
            return torch.load(path, map_location=map_location or "cpu", weights_only=False)
        try:
            with only_allowed(DATA_CLASSES):
                content = torch.load(path, map_location=map_location or "cpu", weights_only=True)
            content = with_arrays(content)
            strange = next(_strange_paths(content.get("callbacks") or {}, path.resolve().parent), None)
        except UnpicklingError as error:
            raise ConfigurationError(
                [
                    f"'{path}' cannot be resumed: it contains more than data, and loading it would run code; delete "
                    f"it, or if you trust the author, set {TRUST}={sha256_of(path)}."
                ]
            ) from error
        except Exception as error:  # torch raises many types of errors for damaged files
            problem = f"'{path}' cannot be resumed: it cannot be read: {error}; delete it."
            raise ConfigurationError([problem]) from error
        if strange is not None:
            problem = f"'{path}' cannot be resumed: it names the checkpoint {strange!r} outside its folder."
            raise ConfigurationError([problem])
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Deletes a file. Lightning would delete folders too, and whatever a URL in a checkpoint names.

        Raises:
            ConfigurationError: if it is no checkpoint.
        """
        file = Path(path)
        if _is_url(path) or file.suffix != ".ckpt" or ".." in file.parts or file.is_dir():
            raise ConfigurationError([f"'{path}' is not deleted: it is not a file whose name ends with .ckpt."])
        file.unlink(missing_ok=True)


def _strange_paths(callbacks: Mapping[str, Any], folder: Path) -> Iterator[Any]:
    """Yields the paths in the states of callbacks that no training wrote: Lightning would delete or load these.

    Args:
        callbacks: the states, by the names of the callbacks.
        folder: of the checkpoint. If it was moved, the paths are in the folder where it was, which the state names.
            Lightning then ignores them.
    """
    for state in callbacks.values():
        if not isinstance(state, Mapping):
            continue
        named = [state.get(key) for key in PATH_KEYS] + [*(state.get("best_k_models") or ())]
        before = state.get("dirpath")
        folders = [folder, *([Path(before).resolve()] if before and not _is_url(before) else ())]
        for path in filter(None, named):
            if _is_url(path) or not any(Path(path).resolve().is_relative_to(allowed) for allowed in folders):
                yield path


def _is_url(path: str | Path) -> bool:
    return "://" in str(path) or "::" in str(path)


def settle_checkpoints(folder: Path) -> None:
    """Cleans up a folder of checkpoints after a kill, so that only the latest `-last.ckpt` remains.

    NeMo refuses to choose between two of them. It also takes a checkpoint with an `-unfinished` marker as incomplete,
    although `SafeCheckpointIO` writes only complete files.
    """
    remove_leftovers(folder)
    for path in sorted(folder.glob(f"*{LAST}"), key=lambda path: path.stat().st_mtime_ns)[:-1]:
        path.unlink()
    for mark in folder.glob(f"*{LAST.removesuffix('.ckpt')}-unfinished"):
        mark.unlink()


def checkpoint_folder(section: Mapping[str, Any]) -> Path:
    """Returns the folder in which exp_manager puts the checkpoints."""
    if chosen := (section.get("checkpoint_callback_params") or {}).get("dirpath"):
        return Path(chosen)
    return log_folder(section) / "checkpoints"


def log_folder(section: Mapping[str, Any]) -> Path:
    """Returns the folder in which exp_manager puts everything else of a training that resumes, or that names it."""
    named = Path(section.get("exp_dir") or "nemo_experiments", section.get("name") or "default")
    return Path(section.get("explicit_log_dir") or named / (section.get("version") or ""))


def complete_training(trainer: Any, model: Any) -> None:
    """Does what a training does at its end, and did not if it was killed before: the model gets the weights of the
    `.nemo`, which is written.

    If a resumed training has no steps left, Lightning restores the checkpoint but does not run the end actions again.
    """
    callback = trainer.checkpoint_callback
    if not getattr(callback, "save_nemo_on_train_end", False) or not Path(callback.last_model_path).is_file():
        return
    if callback.save_best_model and callback.best_model_path:
        model.load_state_dict(trainer.strategy.load_checkpoint(callback.best_model_path)["state_dict"])
    path = nemo_path(callback)
    if not path.is_file() or path.stat().st_mtime_ns < Path(callback.last_model_path).stat().st_mtime_ns:
        model.save_to(str(path))
