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
# Packages whose classes a config may name, as NeMo's own configs do.
ALLOWED_TARGETS = ("nemo.collections.", "nemo.core.", "torch.nn.", "torch.optim.")
DATA_CLASSES = re.compile(r"transformers\.\w+Config")  # of Hugging Face encoders; they only hold values
RECORDS = ("distilled_with", "started_from")  # sections that record how a student was made; NeMo does not build them
TARGET_KEYS = ("_target_", "target", "cls")


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
    """Returns the classes and functions in a config that are not allowed. Building the config would call them.

    Args:
        config: the config, as plain containers. The sections in `RECORDS` are not checked, because they are not built.
        own_classes: full names of additional allowed classes.
    """
    built = {key: value for key, value in config.items() if key not in RECORDS}
    return [
        name
        for name in _targets(built)
        if name not in own_classes and not name.startswith(ALLOWED_TARGETS) and not DATA_CLASSES.fullmatch(name)
    ]


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in TARGET_KEYS and isinstance(value, str) and "." in value:
                yield value
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)
