"""What a teacher cache is made with, and which pairs of the training data it holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, with_config
from typing_extensions import TypedDict

from nemo_distill.config.section import section
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.records import OPEN, read_json
from nemo_distill.text.files import as_list
from nemo_distill.text.training_mix import mixed_files

# Keys of `model.train_ds` that decide which pairs are trained on, with NeMo's defaults.
CHOOSING_PAIRS = {
    "clean": False,
    "max_seq_length": 512,
    "min_seq_length": 1,
    "max_seq_length_diff": 512,
    "max_seq_length_ratio": 512,
    "reverse_lang_direction": False,
}


@section
class CacheSettings:
    """What the records depend on, besides the teacher and the data."""

    k: int | None = Field(default=64, ge=1)
    """Words that are kept of a token, the most probable ones; null keeps all."""
    dtype: Literal["float16", "float32"] = "float16"
    """The type of the log-probabilities that are stored."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The precision that the teacher computes in."""
    tokens_in_batch: int = Field(default=8192, ge=1)
    """Source and target tokens, padding included, of the batches that the teacher sees."""
    shard_pairs: int = Field(default=50000, ge=1)
    """A shard ends with the batch that brings it to as many pairs."""


def chosen_pairs(train_ds: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of the keys that decide which pairs are trained on."""
    return {key: train_ds.get(key, default) for key, default in CHOOSING_PAIRS.items()}


def data_files(model: Mapping[str, Any]) -> list[Path]:
    """Returns the files that are trained on: those of a mix, or else text, or metadata and the tar files it names."""
    if files := mixed_files(model):
        return files
    train_ds = model.get("train_ds") or {}
    if not train_ds.get("use_tarred_dataset"):
        names = as_list(train_ds.get("src_file_name")) + as_list(train_ds.get("tgt_file_name"))
        return [Path(name).expanduser() for name in names]
    metadata = [Path(name).expanduser() for name in as_list(train_ds.get("metadata_file"))]
    return metadata + [tar for file in metadata if file.is_file() for tar in _tar_files(file)]


@with_config(OPEN)
class TarredData(TypedDict, total=False):
    """What NeMo's metadata say of tarred data, as far as they are read here."""

    tar_files: list[str] | None


def _tar_files(metadata: Path) -> list[Path]:
    """As NeMo finds them: where the metadata says, or else beside it."""
    named = [Path(name) for name in (read_json(metadata, TarredData) or {}).get("tar_files") or []]
    return [path if path.exists() else metadata.parent / path.name for path in named]


def data_fingerprints(model: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the names and the SHA-256 of the files that are trained on."""
    return [fingerprint(path) for path in data_files(model)]
