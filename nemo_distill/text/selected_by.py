"""Which metrics selected the labels in a training's text.

A metric that selected the labels should not judge the student that learned from them. So each step hands the names on
in its record: labels, mixes and splits of them, and tarred data made of any.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill.config.errors import DataError
from nemo_distill.storage.files import user_path
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.records import OPEN, FileEntry, read_json
from nemo_distill.text.files import as_list, text_pairs

TARGET = ".tgt"  # a record such as `pseudo.json` tells of `pseudo.tgt`; the source side is not selected
SPLIT_RECORD = "split.json"  # tells of all files of a split, and of their endings


@with_config(OPEN)
class TextSettings(TypedDict, total=False):
    """What the settings of a text say of its files: of a split, the endings of sources and targets."""

    endings: tuple[str, str]


@with_config(OPEN)
class TextRecord(TypedDict, total=False):
    """What the record of a text says of its files."""

    settings: TextSettings
    selected_by: list[str]
    files: list[FileEntry]


def selected_by(targets: Iterable[Path]) -> list[str]:
    """Returns the names of the metrics that selected labels in target files, sorted.

    They are in a record beside a file, which must list the file with its SHA-256. Text without such a record was
    selected by none.
    """
    return sorted({name for path in targets for name in _of_text(path)})


def _of_text(path: Path) -> list[str]:
    names = set()
    for record in (_read(path.with_suffix(".json")), _read(path.with_name(SPLIT_RECORD))):
        _, ending = record.get("settings", {}).get("endings", ("", TARGET.removeprefix(".")))
        if path.suffix == f".{ending}" and record.get("selected_by") and fingerprint(path) in record.get("files", ()):
            names |= {*record["selected_by"]}
    return sorted(names)


def training_selected_by(train: Mapping[str, Any]) -> list[str]:
    """Returns the names of the metrics that selected labels in the text or the tarred data that a training reads.

    Args:
        train: the section `train_ds`, as NeMo reads it: what is mixed or made into tarred data is there already.
    """
    if train.get("use_tarred_dataset") and (metadata := as_list(train.get("metadata_file"))):
        records = (_read(user_path(path)) for path in metadata)
        return sorted({name for record in records for name in record.get("selected_by", ())})
    return selected_by(target for _, target in text_pairs(train))


def _read(path: Path) -> TextRecord:
    try:
        return read_json(path, TextRecord) or {}
    except DataError:  # a JSON file of someone else's
        return {}
