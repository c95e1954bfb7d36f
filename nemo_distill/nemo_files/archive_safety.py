"""What a stranger's `.nemo` may not hold: whatever would write outside its folder, fill the disk, or run code.

A file that needs more, such as one of NeMo 1.x whose weights are no plain tensors, is opened if its author is trusted:
the environment variable `NEMO_DISTILL_TRUST` then holds the file's SHA-256, or several with commas between them.
"""

import os
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from nemo_distill.storage.folder_safety import leads_out
from nemo_distill.storage.ledger import sha256_of

TRUST = "NEMO_DISTILL_TRUST"
MOST_MEMBERS = 10_000
MOST_NAME_BYTES = 255  # of a file or folder, on the usual file systems
MOST_BYTES = 1 << 37  # unpacked
MOST_CONFIG_BYTES = 1 << 24
MOST_EXPANSION = 20  # of packed archives: unpacked bytes over packed ones, beyond the first 64 MiB
MOST_ALIASES = 100  # of YAML, each of which may stand for a copy of something large
# Packages whose classes a config may name: those that NeMo's own configs name.
ALLOWED_TARGETS = ("nemo.collections.", "nemo.core.", "torch.nn.", "torch.optim.")
RECORDS = ("distilled_with", "started_from")  # how a student was made
TARGET_KEYS = ("_target_", "target", "cls")


def is_trusted(path: Path) -> bool:
    """True if the user says that this file may run code."""
    trusted = os.environ.get(TRUST, "").replace(" ", "")
    return bool(trusted) and sha256_of(path) in trusted.split(",")


def member_problem(tar: tarfile.TarFile, packed_bytes: int) -> str | None:
    """Returns what is wrong with an archive's members, the first thing that is found, or None."""
    most = min(MOST_BYTES, MOST_EXPANSION * packed_bytes + (1 << 26))
    unpacked = 0
    for number, member in enumerate(tar, start=1):
        unpacked += member.size
        if number > MOST_MEMBERS:
            return f"it holds more than {MOST_MEMBERS:,} members"
        if unpacked > most:
            return f"it would unpack to more than {most:,} bytes"
        if leads_out(member.name):
            return f"its member {member.name!r} would be written outside the folder that it is unpacked in"
        if not (member.isreg() or member.isdir()) or member.issparse():
            return f"its member {member.name!r} is neither a plain file nor a folder"
        if not _can_be_written(member):
            return f"its member {member.name[:80]!r} has no name that a file can have"
    return None


def _can_be_written(member: tarfile.TarInfo) -> bool:
    parts = PurePosixPath(member.name).parts
    longest = max((len(os.fsencode(part)) for part in parts), default=0)
    return longest <= MOST_NAME_BYTES and (bool(parts) or member.isdir())


def config_problem(content: bytes) -> str | None:
    """Returns what is wrong with a config's YAML before it is read, or None."""
    if len(content) > MOST_CONFIG_BYTES:
        return f"its config has {len(content):,} bytes"
    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, Loader=yaml.CSafeLoader))
    except yaml.YAMLError as error:
        return f"its config is no YAML: {' '.join(str(error).split())}"
    return f"its config has {aliases:,} YAML aliases" if aliases > MOST_ALIASES else None


def forbidden_targets(config: Mapping[str, Any], own_classes: Collection[str] = ()) -> list[str]:
    """Returns the classes and functions that a config names and may not: whoever builds it would import and call them.

    Args:
        config: as plain containers; nothing is built of its `RECORDS`.
        own_classes: full names that are allowed besides NeMo's.
    """
    built = {key: value for key, value in config.items() if key not in RECORDS}
    return [
        name for name in _targets(built) if name not in own_classes and not name.startswith(tuple(ALLOWED_TARGETS))
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
