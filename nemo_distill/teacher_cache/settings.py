"""What a teacher cache is made with, and which pairs of the training data it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.records import OPEN, read_json
from nemo_distill.teacher_cache.records import DTYPES
from nemo_distill.text.files import as_list
from nemo_distill.text.training_mix import mixed_files

PRECISIONS = ("float32", "bfloat16")
# Keys of `model.train_ds` that decide which pairs are trained on, with NeMo's defaults.
CHOOSING_PAIRS = {
    "clean": False,
    "max_seq_length": 512,
    "min_seq_length": 1,
    "max_seq_length_diff": 512,
    "max_seq_length_ratio": 512,
    "reverse_lang_direction": False,
}


@dataclass(frozen=True)
class CacheSettings:
    """What the records depend on, besides the teacher and the data.

    Args:
        k: words that are kept of a token; None keeps all.
        dtype: of the log-probabilities that are stored.
        precision: that the teacher computes in.
        tokens_in_batch: as NeMo has it, of the batches that the teacher sees.
        shard_pairs: a shard ends with the batch that brings it to as many pairs.
    """

    k: int | None
    dtype: str
    precision: str
    tokens_in_batch: int
    shard_pairs: int

    def problems(self) -> list[str]:
        """Returns a sentence for each value that is not allowed."""
        allowed = {"dtype": DTYPES, "precision": PRECISIONS}
        found = [
            f"{key}={getattr(self, key)}: must be one of {', '.join(values)}."
            for key, values in allowed.items()
            if getattr(self, key) not in values
        ]
        for key in ("k", "tokens_in_batch", "shard_pairs"):
            value = getattr(self, key)
            if value is not None and value < 1:
                found.append(f"{key}={value}: must be at least 1.")
        return found


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


class TarredData(TypedDict, total=False):
    """What NeMo's metadata say of tarred data, as far as they are read here."""

    __pydantic_config__ = OPEN
    tar_files: list[str] | None


def _tar_files(metadata: Path) -> list[Path]:
    """As NeMo finds them: where the metadata says, or else beside it."""
    named = [Path(name) for name in read_json(metadata, TarredData).get("tar_files") or []]
    return [path if path.exists() else metadata.parent / path.name for path in named]


def data_fingerprints(model: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the names and the SHA-256 of the files that are trained on."""
    return [fingerprint(path) for path in data_files(model)]
