"""What is left by a job: whether all of it that can be read is whole, and what is the same in every run."""

import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nemo_distill.evaluation.evaluation_record import EvaluationRecord
from nemo_distill.storage.records import read_json
from nemo_distill.trainer.safe_checkpoints import SafeCheckpointIO
from tests.pseudo_labels.fakes import contents

PAIRS = 64  # of the corpus that is cached
NEVER_READ = (".tmp", ".unfinished")  # in the names of files and folders that are being written


def evaluation_of(folder: Path) -> dict[str, Any]:
    """Scores, comparisons, tables and translations, without the date."""
    found: dict[str, Any] = contents(folder)
    record = json.loads(found.pop("evaluation.json"))
    found.pop("evaluation.md")  # which has the date, too
    return found | {"systems": record["systems"], "test_sets": record["test_sets"]}


def training_of(folder: Path) -> dict[str, Any]:
    """The losses of all steps, the checkpoints' names, and the weights of the last one and of the student's `.nemo`."""
    (last,) = (folder / "checkpoints").glob("*-last.ckpt")
    state = SafeCheckpointIO().load_checkpoint(last)
    record = json.loads((folder / "run.json").read_text())
    return {
        "losses": logged_losses(folder),
        # Of the last one's name Lightning takes the score from what this attempt has validated, which may be nothing.
        "files": sorted(re.sub("--.*-last", "-last", path.name) for path in (folder / "checkpoints").iterdir()),
        "weights": {name: value.tolist() for name, value in state["state_dict"].items()},
        "optimizer": repr(state["optimizer_states"]),
        "step": state["global_step"],
        "best": record["best"],
        "student": {name: value.tolist() for name, value in nemo_weights(next(folder.rglob("*.nemo"))).items()},
    }


def logged_losses(folder: Path) -> dict[int, float]:
    """The training loss of each step; of steps that were done again, that of the last time."""
    losses = {}
    for events in sorted(folder.rglob("events*"), key=lambda path: path.stat().st_mtime):
        accumulator = EventAccumulator(str(events)).Reload()
        if "train_loss" in accumulator.Tags()["scalars"]:
            losses |= {event.step: event.value for event in accumulator.Scalars("train_loss")}
    return losses


def nemo_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """The weights in a `.nemo`."""
    with tarfile.open(path) as tar:
        (name,) = (name for name in tar.getnames() if name.endswith("model_weights.ckpt"))
        return torch.load(tar.extractfile(name), weights_only=True)


def readable(folder: Path) -> dict[str, Path]:
    """The files that a reader would take for whole, by their path in the folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path for name, path in names.items() if not any(part in name for part in NEVER_READ)}


def check_bytes(folder: Path, whole: Path) -> None:
    """All that can be read is what an uninterrupted run writes."""
    for name, path in readable(folder).items():
        assert path.read_bytes() == (whole / name).read_bytes(), name


def check_evaluation(folder: Path, whole: Path) -> None:
    """Texts and scores are what an uninterrupted run writes; the tables are whole."""
    for name, path in readable(folder).items():
        if name == "evaluation.json":
            assert read_json(path, EvaluationRecord)
        elif name != "evaluation.md":
            assert path.read_bytes() == (whole / name).read_bytes(), name


def check_training(folder: Path, whole: Path) -> None:
    """Every checkpoint, `.nemo` and record can be read to its end."""
    for name, path in readable(folder).items():
        if path.suffix == ".ckpt":
            assert SafeCheckpointIO().load_checkpoint(path)["state_dict"], name
        elif path.suffix == ".nemo":
            assert nemo_weights(path), name
        elif path.name == "run.json":
            assert json.loads(path.read_text())["status"], name


def check_cache(folder: Path, whole: Path) -> None:
    """Like `check_bytes`; the numbers of the pairs that came before are there until the end."""
    left_out = PAIRS - json.loads((whole / "manifest.json").read_text())["pairs"]
    for name, path in readable(folder).items():
        if name == "repeated.npy":
            assert not (folder / "manifest.json").exists() and len(set(np.load(path).tolist())) == left_out
        else:
            assert path.read_bytes() == (whole / name).read_bytes(), name


CHECKS = {
    "preparing": (check_bytes, contents),
    "labelling": (check_bytes, contents),
    "caching": (check_cache, contents),
    "exporting": (check_bytes, contents),
    "evaluating": (check_evaluation, evaluation_of),
    "training": (check_training, training_of),
}
