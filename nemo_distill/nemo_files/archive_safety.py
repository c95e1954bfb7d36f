"""Checks that a `.nemo` from an untrusted source is safe to open.

Rejects files that would write outside the target folder, fill the disk, or run code. Some valid files need code,
such as NeMo 1.x models whose weights are not plain tensors. To allow such a file, add its SHA-256 to the environment
variable `NEMO_DISTILL_TRUST` (comma-separated).
"""

import os
import tarfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from nemo_distill.config.checks import walked
from nemo_distill.storage.folder_safety import escapes_folder
from nemo_distill.storage.ledger import sha256_of

TRUST = "NEMO_DISTILL_TRUST"
MAX_MEMBERS = 10_000
MAX_NAME_BYTES = 255  # limit of common file systems for the name of a file or folder
MAX_BYTES = 1 << 37  # total unpacked size
MAX_CONFIG_BYTES = 1 << 24
MAX_EXPANSION = 20  # ratio of unpacked to packed bytes, not counting the first 64 MiB
MAX_ALIASES = 10  # of YAML; each may stand for a large node, which itself has aliases. NeMo writes none
MAX_DEPTH = 100  # of YAML
# The classes that a config may name. All others, also NeMo's and Hugging Face's, can do harm: one of them passes its
# keys to a shell, others load a model that their keys name, with its code.
TRANSLATION_MODEL = "nemo.collections.nlp.models.machine_translation.mt_enc_dec_model.MTEncDecModel"
TEXT_ENCODERS = tuple(
    f"transformers.{name}Config"
    for name in ("Bert", "Roberta", "XLMRoberta", "DistilBert", "Electra", "Albert", "Camembert")
)
RECORDS = ("distilled_with", "started_from")  # sections that record how a student was made; nothing is built of them
TRAINING_SECTIONS = ("train_ds", "validation_ds", "test_ds", "optim")  # left out when a model is restored
MERGED_KEYS = ("model", "params", "chakra_profile")  # NeMo would take other keys from them, or write where they say
TARGET_KEYS = ("_target_", "target", "cls")
INTERPOLATION = "${"  # could bring in what was not checked; NeMo writes none


def is_trusted(path: Path) -> bool:
    """True if the user has listed this file in `NEMO_DISTILL_TRUST`."""
    trusted = os.environ.get(TRUST, "").replace(" ", "")
    return bool(trusted) and sha256_of(path) in trusted.split(",")


def member_problem(tar: tarfile.TarFile, packed_bytes: int) -> str | None:
    """Returns the first problem with the members of an archive, or None."""
    most = min(MAX_BYTES, MAX_EXPANSION * packed_bytes + (1 << 26))
    unpacked, names = 0, set()
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
        if (name := PurePosixPath(member.name)) in names:  # unpacking keeps the last of them, a reader finds the first
            return f"its member {member.name!r} occurs twice"
        names.add(name)
    return None


def _can_be_written(member: tarfile.TarInfo) -> bool:
    parts = PurePosixPath(member.name).parts
    longest = max((len(os.fsencode(part)) for part in parts), default=0)
    return longest <= MAX_NAME_BYTES and (bool(parts) or member.isdir())


def config_problem(content: bytes) -> str | None:
    """Returns a problem with the YAML of a config, found before it is loaded, or None."""
    if len(content) > MAX_CONFIG_BYTES:
        return f"its config is too large: {len(content):,} bytes"
    aliases = depth = 0
    try:
        for event in yaml.parse(content, Loader=yaml.CSafeLoader):
            aliases += isinstance(event, yaml.AliasEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                return f"its config is nested more than {MAX_DEPTH} deep"
    except yaml.YAMLError as error:
        return f"its config is not valid YAML: {' '.join(str(error).split())}"
    return f"its config has too many YAML aliases: {aliases:,}" if aliases > MAX_ALIASES else None


def forbidden_parts(config: Mapping[str, Any], own_classes: Collection[str] = ()) -> list[str]:
    """Returns what must not stand in a config, because opening a model with it could run code or reach other files.

    Args:
        config: the config, as plain containers with its interpolations.
        own_classes: full names of additional classes that the config as a whole may describe.
    """
    kept = {key: value for key, value in config.items() if key not in TRAINING_SECTIONS}
    built = {key: value for key, value in kept.items() if key not in RECORDS}
    allowed = {TRANSLATION_MODEL, *own_classes}
    whole = {key for key in TARGET_KEYS if built.get(key) in allowed}
    texts = (part for _, *parts in walked(kept) for part in parts if isinstance(part, str))
    found = [text for text in texts if INTERPOLATION in text] + [key for key in MERGED_KEYS if key in built]
    found += _named_classes({key: value for key, value in built.items() if key not in whole})
    return found + list(_outer_files(built))


def _named_classes(config: Mapping[str, Any]) -> Iterator[str]:
    for place, key, value in walked(config):
        is_encoder = place == "encoder._target_" and value in TEXT_ENCODERS
        # A `target` may also be a word, such as a language.
        if key in TARGET_KEYS and isinstance(value, str) and (key != "target" or "." in value) and not is_encoder:
            yield value


def _outer_files(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields files outside the archive, which would be packed into the `.nemo` of a student."""
    for side in ("encoder", "decoder"):
        section = config.get(f"{side}_tokenizer")
        named = section.get("vocab_file") if isinstance(section, Mapping) else None
        if isinstance(named, str) and ("/" in named or named.startswith("~")):
            yield named
