"""Provenance of a result: date, device and versions."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import with_config
from typing_extensions import TypedDict

from nemo_distill import __version__
from nemo_distill.storage.files import versions
from nemo_distill.storage.records import OPEN

CPU_INFO = Path("/proc/cpuinfo")
# Instructions for many numbers at once, for products of 8 bits, and for bfloat16, as Linux names those of x86 and ARM.
CPU_UNITS = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "i8mm", "bf16",
)  # fmt: skip
PACKAGES = (
    "torch", "lightning", "nemo_toolkit", "ctranslate2", "transformers", "sentencepiece", "sacrebleu", "unbabel-comet",
)  # fmt: skip


def made_with(device: str, threads: int) -> dict[str, Any]:
    """Returns date, device, threads, package versions and the git revision of this code."""
    return {**made_now(), "device": f"{device}: {device_name(device)}", "threads": threads}


def made_now() -> dict[str, Any]:
    """Returns date, package versions and the git revision of this code."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": used_versions(),
        "git_revision": git_revision(),
    }


def used_versions() -> dict[str, str]:
    """Returns the versions of this package, of Python and of the packages that results may depend on."""
    return {"nemo_distill": __version__, "python": platform.python_version(), **versions(PACKAGES)}


def device_name(device: str) -> str:
    """Returns the product name of a GPU, or that of this machine's CPU with the instructions that decide its speed.

    Virtual machines call processors of several generations by one name.
    """
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    name = next(iter(cpu_info("model name")), platform.machine())
    units = [flag for flag in CPU_UNITS if flag in cpu_flags()]
    return f"{name} ({', '.join(units)})" if units else name


def cpu_flags() -> set[str]:
    """Returns the names that Linux has for the instructions of this machine's CPU; an empty set on other systems."""
    return {flag for line in cpu_info("flags", "Features") for flag in line.split()}


def cpu_info(*keys: str) -> list[str]:
    """Returns the values that Linux gives for these keys, such as `model name`; of x86 for each core."""
    lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines() if CPU_INFO.is_file() else []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(keys)]


def git_revision() -> str | None:
    """Returns the git commit of this code, followed by "+" if it has local changes; None outside git."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # An installed package may be inside an unrelated git repository.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def short_revision(revision: str | None) -> str:
    """Returns the first 8 digits of a revision, followed by "+" if there were local changes."""
    return (revision[:8] + ("+" if revision.endswith("+") else "")) if revision else "unknown"


@with_config(OPEN)
class MadeWith(TypedDict, total=False):
    """Date, device and versions of a result."""

    date: str
    device: str | None
    threads: int
    versions: dict[str, str]
    git_revision: str | None
