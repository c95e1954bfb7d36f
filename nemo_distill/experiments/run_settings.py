"""The settings that a training depends on, for its `run.json`."""

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nemo_distill.storage.files import versions
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.made_with import git_revision
from nemo_distill.text.files import as_list

PACKAGES = ("nemo_distill", "nemo_toolkit", "torch", "lightning", "sentencepiece", "sacrebleu")


def job_settings(cfg: DictConfig) -> dict[str, Any]:
    """Returns the resolved `config` and the SHA-256 of the `teachers`, as JSON values."""
    config = OmegaConf.to_container(cfg, resolve=True)
    return {"config": config, "teachers": _teachers(config.get("model", {}).get("distillation") or {})}


def _teachers(distillation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if cache := distillation.get("teacher_cache"):
        from nemo_distill.teacher_cache.cache import read_manifest  # imports torch, so only if needed

        return [read_manifest(cache)["settings"]["teacher"]]
    paths = [Path(path).expanduser() for path in as_list(distillation.get("model_path"))]
    return [fingerprint(path) for path in paths if path.exists()]


def new_record(settings: Mapping[str, Any], status: str) -> dict[str, Any]:
    """Returns the record of a training before its start: settings, command and environment."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {
        "status": status,
        "seed": settings["config"].get("seed", 0),
        "overrides": list(overrides),
        "made_with": {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": None,
            "versions": {"python": platform.python_version(), **versions(PACKAGES)},
            "git_revision": git_revision(),
        },
        "settings": settings,
    }
