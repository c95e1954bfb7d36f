"""The record of a training, `run.json`: what it is made from and with before it starts, and how it ended.

A training goes on, and a sweep skips it, only if what its record names is still the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from math import isfinite
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.console import print_table
from nemo_distill.nemo_files.model_kinds import SIDES
from nemo_distill.storage.files import user_path, write_text
from nemo_distill.storage.ledger import changed_files, differences, fingerprint
from nemo_distill.storage.made_with import device_name, made_now
from nemo_distill.storage.run_record import RunRecord, read_run, read_run_of, recorded_run
from nemo_distill.storage.shard_folder import MANIFEST
from nemo_distill.text.files import FILE_KEYS, as_list
from nemo_distill.text.training_mix import mixed_files

# What may change while a training goes on: its length, where it runs, and what is logged, validated and tested.
DECISIVE_OF_TRAINER = (
    "precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches",
    "overfit_batches",
)  # fmt: skip
FREE_SECTIONS = ("exp_manager", "do_training", "do_testing", "name")


def new_record(cfg: DictConfig, status: str) -> dict[str, Any]:
    """Returns the record of a training before its start: settings, inputs, command and environment."""
    settings = job_settings(cfg)
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return {
        "status": status,
        "seed": settings["config"].get("seed", 0),
        "overrides": list(overrides),
        "made_with": {**made_now(), "device": None},
        "settings": settings,
        "inputs": job_inputs(cfg),
    }


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


def check_earlier(
    folder: Path, checkpoints: Path, earlier: RunRecord | None, record: dict[str, Any], resumes: bool
) -> None:
    """Checks that a training in a folder that holds one already goes on with it as it began.

    Raises:
        DataError: if it would begin anew, or go on with other settings, text or teachers, or write over a model that
            no training in this folder has written.
    """
    if not resumes:
        raise DataError(
            f"exp_manager.explicit_log_dir={folder} holds a training already: exp_manager.resume_if_exists=true goes "
            "on with it, and another folder begins a new one."
        )
    models = sorted(checkpoints.glob("*.nemo"))
    if models and not earlier and not any(checkpoints.glob("*.ckpt")):
        raise DataError(
            f"exp_manager.explicit_log_dir={folder}: '{models[0]}' is there, but no training that has written it; "
            "give another folder."
        )
    changes = _changes_since(earlier or {}, record)
    if changes:
        raise DataError(
            f"'{folder}' holds a training with other settings, which cannot go on with these: {'; '.join(changes)}. "
            "Another exp_manager.explicit_log_dir begins a new one; init_from_nemo_model starts from its weights."
        )


def _changes_since(earlier: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Returns how a training that goes on differs from the one that began, in what decides on its weights.

    Args:
        earlier: its record in `run.json`; one without settings tells nothing.
        record: from `new_record`.
    """
    if not earlier.get("settings"):
        return []
    changed = differences(_decisive(earlier["settings"]), _decisive(record["settings"]))
    return changed + changed_files(earlier.get("inputs") or {}, record["inputs"])


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    config = {key: value for key, value in settings["config"].items() if key not in FREE_SECTIONS}
    trainer = config.get("trainer") or {}
    model = {key: value for key, value in (config.get("model") or {}).items() if key != "test_ds"}
    return {
        **config,
        "trainer": {key: trainer.get(key) for key in DECISIVE_OF_TRAINER},
        "model": _without_workers(model),
        "teachers": settings.get("teachers"),
    }


def _without_workers(section: Any) -> Any:
    if not isinstance(section, Mapping):
        return section
    return {key: _without_workers(value) for key, value in section.items() if key not in ("num_workers", "pin_memory")}


@contextmanager
def recorded_training(
    cfg: DictConfig, trainer: Any, record: dict[str, Any], earlier: RunRecord | None
) -> Iterator[None]:
    """Keeps `run.json` up to date during a training, then writes the model card and prints a summary.

    Args:
        cfg: the config of the training.
        trainer: Lightning's.
        record: from `new_record`.
        earlier: the record of the training that goes on, if any.
    """
    record["made_with"]["device"] = f"{trainer.world_size} x {device_name(str(trainer.strategy.root_device))}"
    record["tokens_in_batch"] = _tokens_in_batch(cfg, trainer)
    seconds = (earlier or {}).get("seconds", 0.0) if trainer.ckpt_path else 0.0
    folder = Path(trainer.default_root_dir)
    before = _started_from(cfg)
    with recorded_run(folder, record, lambda: _outcome(trainer, before), seconds):
        yield
    from nemo_distill.report.model_card import model_card  # imports torch, which a sweep does not need

    models = _models_of(trainer)
    for written in models:
        write_text(written.with_suffix(".md"), model_card(written, folder))
    if models:  # none, where data alone was prepared
        print_table(("training", str(folder)), training_summary(read_run(folder) or {}, models))


def training_summary(record: RunRecord, models: Sequence[Path]) -> list[tuple[str, str]]:
    """Returns the rows of a table of a finished training: its models, and what is known of its length and score."""
    counts = (("steps", "steps", ",d"), ("epochs", "epochs", ".1f"), ("target tokens", "target_tokens", ",d"))
    rows = [(name, format(count, form)) for name, key, form in counts if (count := record.get(key)) is not None]
    rows.append(("time", str(timedelta(seconds=round(record.get("seconds", 0.0))))))
    if best := record.get("best"):
        rows.append((f"best {best['monitor']}", f"{best['value']:.5g}"))
    if size := record.get("parameters"):
        of_teacher = record.get("teacher_parameters")
        rows.append(("parameters", f"{size:,}" + (f", the teacher's {of_teacher:,}" if of_teacher else "")))
    return rows + [("model", str(path)) for path in models]


def _started_from(cfg: DictConfig) -> RunRecord | None:
    """Returns the record of the training that made the weights to start from, an empty one if there is none.

    None if the training starts from no model.
    """
    path = cfg.get("init_from_nemo_model")
    return (read_run_of(user_path(path)) or {}) if path else None


def _tokens_in_batch(cfg: DictConfig, trainer: Any) -> int | None:
    """Returns the limit on the tokens of an optimizer step: source, target and padding of all its batches.

    None for tarred data that is there already, whose batches were made elsewhere.
    """
    train: Any = cfg.model.get("train_ds") or {}
    if train.get("metadata_file") or not train.get("tokens_in_batch"):
        return None
    return train.tokens_in_batch * trainer.accumulate_grad_batches * trainer.world_size


def _models_of(trainer: Any) -> list[Path]:
    callback = trainer.checkpoint_callback
    folder = Path((callback and callback.dirpath) or Path(trainer.default_root_dir) / "checkpoints")
    return sorted(folder.glob("*.nemo"))


def _outcome(trainer: Any, before: RunRecord | None) -> dict[str, Any]:
    """Returns the results of a training: its length, best and last scores, sizes, and the written `.nemo`.

    Args:
        before: as from `_started_from`; the length in it is added.
    """
    from nemo_distill.trainer.training_length import TrainingLength

    (length,) = (callback for callback in trainer.callbacks if isinstance(callback, TrainingLength))
    model, checkpoint = trainer.lightning_module, trainer.checkpoint_callback
    student = getattr(model, "student", model)
    best = checkpoint.best_model_score if checkpoint else None
    scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return {
        **_sum(length.so_far(trainer), before),
        "best": None if best is None or not isfinite(best) else {"monitor": checkpoint.monitor, "value": float(best)},
        "scores": {name: value if isfinite(value) else None for name, value in scores.items()},  # JSON has no NaN
        "parameters": student.number_of_parameters() if student else None,  # none, where data alone was prepared
        "teacher_parameters": getattr(model, "teacher_parameters", None),
        "models": [fingerprint(path) for path in _models_of(trainer)],
    }


def _sum(length: dict[str, float | None], before: RunRecord | None) -> dict[str, float | None]:
    """Adds the length of an earlier training, if there was one. A sum with an unknown number is unknown."""
    if before is None:
        return length
    earlier: dict[str, Any] = dict(before)
    return {
        key: None if value is None or (more := earlier.get(key)) is None else value + more
        for key, value in length.items()
    }
