"""Restores models from `.nemo` files for inference, without data sets, optimizer, code in the weights, or NaN."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from nemo.core.classes import ModelPT
from nemo.core.connectors.save_restore_connector import SaveRestoreConnector
from omegaconf import open_dict

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.archive_safety import TRAINING_SECTIONS, TRUST, is_trusted
from nemo_distill.nemo_files.host_fixes import restoring
from nemo_distill.nemo_files.model_kinds import SIDES
from nemo_distill.nemo_files.saved_arrays import only_allowed
from nemo_distill.nemo_files.weights import check_weights

AnyModel = TypeVar("AnyModel", bound=ModelPT)
UNFIT_WEIGHTS = "Error(s) in loading state_dict"  # torch's words


class WeightsOnlyConnector(SaveRestoreConnector):
    """Loads only tensors. NeMo's own connector unpickles arbitrary objects."""

    def __init__(self, path: str | Path):
        super().__init__()
        self._path = path  # for messages

    def _load_state_dict_from_disk(self, model_weights: str, map_location: torch.device | None = None) -> dict:
        try:
            with only_allowed():
                return torch.load(model_weights, map_location="cpu", weights_only=True)
        except (UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
            reason = f"cannot be read: {' '.join(str(error).split())}"  # of a file that is damaged
            if isinstance(error, UnpicklingError):
                trust = f"if you trust its author, set {TRUST}={NemoArchive(self._path).sha256()}"
                reason = f"are no plain tensors, and reading them would run code; {trust}"
            raise ConfigurationError([f"'{self._path}' is not opened: its weights {reason}."]) from error


def restore_for_inference(model_class: type[AnyModel], path: str | Path) -> AnyModel:
    """Restores a `.nemo` as `model_class`, on the CPU, in eval mode, without gradients and without BPE-dropout.

    It does not change the random state, so the initial weights of a student depend only on the seed.

    Args:
        model_class: the class to build, which may be a subclass of the class named in the file.

    Raises:
        ValueError: if the file is not a `.nemo`, or contains code; see `archive_safety` for how to trust it.
        NotFiniteError: if the weights contain NaN or infinity.
    """
    archive = NemoArchive(path)
    archive.check_targets([f"{base.__module__}.{base.__qualname__}" for base in model_class.__mro__])
    config, trusted = archive.config, is_trusted(archive.path)
    with open_dict(config):
        for section in TRAINING_SECTIONS:
            config.pop(section, None)
    try:
        # NeMo initializes random weights before it loads those of the file.
        with restoring(model_class), torch.random.fork_rng(devices=[]):
            model = model_class.restore_from(
                str(archive.path),
                override_config_path=config,
                map_location=torch.device("cpu"),
                save_restore_connector=SaveRestoreConnector() if trusted else WeightsOnlyConnector(path),
            )
    except RuntimeError as error:
        if not str(error).startswith(UNFIT_WEIGHTS):
            raise
        reason = str(error).splitlines()[1].strip()
        raise ConfigurationError([f"'{path}' is not opened: its weights do not fit its config: {reason}"]) from error
    check_weights(model, f"'{path}' is not used: it")
    for side in SIDES:
        tokenizer: Any = getattr(model, f"{side}_tokenizer", None)
        if hasattr(tokenizer, "bpe_dropout"):  # of youtokentome, which NeMo applies in translation too
            tokenizer.bpe_dropout = 0.0
    return model.eval().requires_grad_(False)
