"""The settings of a teacher cache, and the training data that it is made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.text.files import as_list, text_paths
from nemo_distill.text.tarred_data import tar_files
from nemo_distill.text.training_mix import mixed_files

# The keys of `model.train_ds` that determine the training pairs, with NeMo's defaults.
PAIR_SELECTION_DEFAULTS = {
    "clean": False,
    "max_seq_length": 512,
    "min_seq_length": 1,
    "max_seq_length_diff": 512,
    "max_seq_length_ratio": 512,
    "reverse_lang_direction": False,
}


@section
class CacheSettings:
    """The settings of the stored records."""

    k: int | None = Field(default=64, ge=1)
    """Number of most probable words to store per token; null stores all."""
    dtype: Literal["float16", "float32"] = "float16"
    """The type of the stored log-probabilities."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """The precision in which the teacher computes. `auto`: as with `trainer.precision=auto`; a cache that was begun
    keeps what was chosen for it."""
    tokens_in_batch: int = Field(default=8192, ge=1)
    """Maximum number of source and target tokens per teacher batch, including padding."""
    shard_pairs: int = Field(default=50000, ge=1)
    """A shard ends after the batch with which it reaches this number of pairs."""


def pair_selection(train_ds: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of the keys that determine the training pairs."""
    return {key: train_ds.get(key, default) for key, default in PAIR_SELECTION_DEFAULTS.items()}


def data_files(model: Mapping[str, Any]) -> list[Path]:
    """Returns the training files: those of a mix, or text, or metadata and its tar files."""
    if files := mixed_files(model):
        return files
    train_ds = model.get("train_ds") or {}
    if not train_ds.get("use_tarred_dataset"):
        sources, targets = text_paths(train_ds)
        return sources + targets
    metadata = [user_path(name) for name in as_list(train_ds.get("metadata_file"))]
    return metadata + [tar for file in metadata if file.is_file() for tar in tar_files(file)]


def data_fingerprints(model: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the name and SHA-256 of each training file."""
    return [fingerprint(path) for path in data_files(model)]
