"""The settings that a training depends on, for its `run.json`."""

import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.nemo_files.model_kinds import SIDES
from nemo_distill.storage.files import user_path, versions
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.made_with import git_revision
from nemo_distill.storage.shard_folder import MANIFEST
from nemo_distill.text.files import FILE_KEYS, as_list
from nemo_distill.text.training_mix import mixed_files

PACKAGES = ("nemo_distill", "nemo_toolkit", "torch", "lightning", "sentencepiece", "sacrebleu")


def job_settings(cfg: DictConfig) -> dict[str, Any]:
    """Returns the resolved `config` and the SHA-256 of the `teachers`, as JSON values."""
    config = OmegaConf.to_container(cfg, resolve=True)
    return {"config": config, "teachers": _teachers(config.get("model", {}).get("distillation") or {})}


def job_inputs(cfg: DictConfig) -> dict[str, str]:
    """Returns the SHA-256 of each file of data, tokenizers and a teacher cache's list, and of the first weights."""
    config = OmegaConf.to_container(cfg, resolve=True)
    return {str(path): fingerprint(path)["sha256"] for path in _named_files(config) if path.is_file()}


def _named_files(config: Mapping[str, Any]) -> Iterator[Path]:
    model = config.get("model", {})
    named = [config.get("init_from_nemo_model")]
    for section in (model.get("train_ds") or {}, model.get("validation_ds") or {}):
        named += [name for key in (*FILE_KEYS, "metadata_file") for name in as_list(section.get(key))]
    named += [(model.get(f"{side}_tokenizer") or {}).get("tokenizer_model") for side in SIDES]
    if cache := (model.get("distillation") or {}).get("teacher_cache"):
        named.append(user_path(cache) / MANIFEST)
    yield from (user_path(name) for name in named if name)
    try:
        yield from mixed_files(model)
    except ConfigurationError:  # a sweep asks before the job's own check, which tells what is wrong
        return


def _teachers(distillation: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if cache := distillation.get("teacher_cache"):
        from nemo_distill.teacher_cache.cache import read_manifest  # imports torch, so only if needed

        return [read_manifest(cache)["settings"]["teacher"]]
    paths = map(user_path, as_list(distillation.get("model_path")))
    return [fingerprint(path) for path in paths if path.exists()]


def new_record(cfg: DictConfig, status: str) -> dict[str, Any]:
    """Returns the record of a training before its start: settings, inputs, command and environment."""
    settings = job_settings(cfg)
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
        "inputs": job_inputs(cfg),
    }
