"""What an evaluation was made with: when, on what, and by which versions."""

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

PACKAGES = ("torch", "nemo_toolkit", "ctranslate2", "transformers", "sacrebleu", "unbabel-comet")


def made_with(device: str, threads: int) -> dict[str, Any]:
    """Returns date, device, threads, versions and the git revision of this code.

    Args:
        device: `cpu`, `cuda`, ...
        threads: that each system was timed with.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": f"{device}: {device_name(device)}",
        "threads": threads,
        "versions": {"nemo_distill": __version__, "python": platform.python_version(), **versions(PACKAGES)},
        "git_revision": git_revision(),
    }


def device_name(device: str) -> str:
    """Returns what the maker calls a GPU or this machine's CPU."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8", errors="replace").splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def git_revision() -> str | None:
    """Returns the commit that this code is of, with "+" after it if files have changed since; None outside git."""
    here = Path(__file__)
    git = ["git", "-C", str(here.parent)]
    try:
        # An installed package may lie within the repository of something else.
        subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


@with_config(OPEN)
class MadeWith(TypedDict, total=False):
    """When, on what and by what something was made."""

    date: str
    device: str | None
    threads: int
    versions: dict[str, str]
    git_revision: str | None
