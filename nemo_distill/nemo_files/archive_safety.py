"""Checks that a `.nemo` from an untrusted source is safe to open.

Rejects files that would write outside the target folder, fill the disk, or run code. Some valid files need code,
such as NeMo 1.x models whose weights are not plain tensors. To allow such a file, add its SHA-256 to the environment
variable `NEMO_DISTILL_TRUST` (comma-separated).
"""

import os
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from nemo_distill.storage.folder_safety import escapes_folder
from nemo_distill.storage.ledger import sha256_of

TRUST = "NEMO_DISTILL_TRUST"
MAX_MEMBERS = 10_000
MAX_NAME_BYTES = 255  # limit of common file systems for the name of a file or folder
MAX_BYTES = 1 << 37  # total unpacked size
MAX_CONFIG_BYTES = 1 << 24
MAX_EXPANSION = 20  # ratio of unpacked to packed bytes, not counting the first 64 MiB
MAX_ALIASES = 100  # of YAML; each alias may stand for a copy of a large node
# The classes that a config may name. All others, also NeMo's, can do harm: one of them passes its keys to a shell.
TRANSLATION_MODEL = "nemo.collections.nlp.models.machine_translation.mt_enc_dec_model.MTEncDecModel"
# Hugging Face's classes only hold values. torch's are of optimizers and schedules, which other files may still name.
DATA_CLASSES = re.compile(r"transformers\.\w+Config|torch\.(nn|optim|optim\.lr_scheduler)\.[A-Z]\w*")
RECORDS = ("distilled_with", "started_from")  # sections that record how a student was made; NeMo does not build them
TARGET_KEYS = ("_target_", "target", "cls")
RESOLVER = re.compile(r"\$\{.*:", re.DOTALL)  # OmegaConf would call it, and some make nodes that are not checked


def is_trusted(path: Path) -> bool:
    """True if the user has listed this file in `NEMO_DISTILL_TRUST`."""
    trusted = os.environ.get(TRUST, "").replace(" ", "")
    return bool(trusted) and sha256_of(path) in trusted.split(",")


def member_problem(tar: tarfile.TarFile, packed_bytes: int) -> str | None:
    """Returns the first problem with the members of an archive, or None."""
    most = min(MAX_BYTES, MAX_EXPANSION * packed_bytes + (1 << 26))
    unpacked = 0
    for number, member in enumerate(tar, start=1):
        unpacked += member.size
        if number > MAX_MEMBERS:
            return f"it has more than {MAX_MEMBERS:,} members"
        if unpacked > most:
            return f"it would unpack to more than {most:,} bytes"
        if escapes_folder(member.name):
            return f"its member {member.name!r} would be written outside the target folder"
        if not (member.isreg() or member.isdir()) or member.issparse():
            return f"its member {member.name!r} is not a regular file or folder"
        if not _can_be_written(member):
            return f"its member {member.name[:80]!r} does not have a valid file name"
    return None


def _can_be_written(member: tarfile.TarInfo) -> bool:
    parts = PurePosixPath(member.name).parts
    longest = max((len(os.fsencode(part)) for part in parts), default=0)
    return longest <= MAX_NAME_BYTES and (bool(parts) or member.isdir())


def config_problem(content: bytes) -> str | None:
    """Returns a problem with the YAML of a config, found before it is loaded, or None."""
    if len(content) > MAX_CONFIG_BYTES:
        return f"its config is too large: {len(content):,} bytes"
    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, Loader=yaml.CSafeLoader))
    except yaml.YAMLError as error:
        return f"its config is not valid YAML: {' '.join(str(error).split())}"
    return f"its config has too many YAML aliases: {aliases:,}" if aliases > MAX_ALIASES else None


def forbidden_targets(config: Mapping[str, Any], own_classes: Collection[str] = ()) -> list[str]:
    """Returns what a config names that must not be built or called. Opening a model with it would do so.

    Args:
        config: the config, as plain containers with its interpolations. The sections in `RECORDS` are not checked,
            because they are not built.
        own_classes: full names of additional classes that the config as a whole may describe.
    """
    built = {key: value for key, value in config.items() if key not in RECORDS}
    allowed = {TRANSLATION_MODEL, *own_classes}
    whole = {key for key in TARGET_KEYS if built.get(key) in allowed}
    return list(_forbidden({key: value for key, value in built.items() if key not in whole}))


def _forbidden(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in TARGET_KEYS and _is_name(key, value) and not DATA_CLASSES.fullmatch(value):
                yield value
            yield from _forbidden(value)
    elif isinstance(node, list):
        for value in node:
            yield from _forbidden(value)
    elif isinstance(node, str) and RESOLVER.search(node):
        yield node


def _is_name(key: str, value: Any) -> bool:
    """True if a value could name a class. A `target` may also be a word, such as a language."""
    return isinstance(value, str) and (key == "_target_" or "." in value or "$" in value)
