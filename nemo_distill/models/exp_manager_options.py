"""Checks the options of exp_manager, which manages logs and checkpoints in NeMo. Runs before NeMo is imported.

Without these checks, most of the errors end in a stack trace of NeMo or Lightning: when the trainer is built, at the
first checkpoint, or at the first validation after an epoch of training. Moving averages fail silently: NeMo does not
save the weights that it validated.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from nemo_distill.config.checks import MISSING
from nemo_distill.config.known_keys import Better
from nemo_distill.models.named_evaluation import set_names
from nemo_distill.storage.files import user_path
from nemo_distill.text.files import MEAN_OF_SETS, as_list

SECTION = "exp_manager"
CHECKPOINT = f"{SECTION}.checkpoint_callback_params"
STOPPING = f"{SECTION}.early_stopping_callback_params"
UNSUPPORTED_PARAMS = {  # why these keys of checkpoint_callback_params cannot be used
    "async_save": "NeMo supports it only for distributed checkpoints; must be false",
    "save_last_n_optim_states": "NeMo supports it only for distributed checkpoints; must be -1",
    "train_time_interval": "needs a timedelta, which a config cannot express; set every_n_train_steps instead",
}
DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")  # days, hours, minutes and seconds


def exp_manager_problems(section: Mapping[str, Any], validation: Mapping[str, Any], ema: Any = None) -> list[str]:
    """Returns the problems of an `exp_manager` section, one sentence each.

    Args:
        section: the `exp_manager` section, resolved.
        validation: the `model.validation_ds` section, whose scores can be monitored.
        ema: the job's key of this name; not None if weights are averaged.
    """
    parts = {name: section.get(name.removeprefix(f"{SECTION}.")) or {} for name in (CHECKPOINT, STOPPING)}
    broken = [name for name, part in parts.items() if not isinstance(part, Mapping)]
    if broken:
        return [f"{name}={parts[name]}: must be a section of keys." for name in broken]
    return [
        *(problem for name, part in parts.items() for problem in _monitor_problems(name, part, validation)),
        *_checkpoint_problems(parts[CHECKPOINT], bool(section.get("resume_if_exists"))),
        *_average_problems(section.get("ema") or {}),
        *(_unaveraged_problems(parts[CHECKPOINT], ema) if ema is not None else ()),
        *_file_problems(section),
        *_other_problems(section),
    ]


def _monitor_problems(name: str, params: Mapping[str, Any], validation: Mapping[str, Any]) -> Iterator[str]:
    """Yields a sentence if no validation logs the monitored score, or if `mode` would select its worst value."""
    monitor, mode = params.get("monitor", "val_loss"), params.get("mode", "min")  # NeMo's defaults
    if not isinstance(monitor, str):
        yield f"{name}.monitor={monitor}: must be the name of a score, such as val_loss."
        return
    logged = _validation_scores(validation)
    if monitor.startswith("val_") and logged and monitor not in logged:
        yield f"{name}.monitor={monitor}: no validation set logs this score; logged are {', '.join(logged)}."
    better = "max" if "BLEU" in monitor else "min" if "loss" in monitor else mode
    if mode in get_args(Better) and mode != better:
        default = "" if "mode" in params else ", the default,"
        yield f"{name}: with monitor={monitor}, mode={mode}{default} selects the worst value; set mode={better}."


def _validation_scores(validation: Mapping[str, Any]) -> list[str]:
    """Returns the names of the scores that validation logs; none if the validation sets are not known."""
    files, names = as_list(validation.get("src_file_name")), validation.get("names")
    known = files and all(isinstance(file, str) and file != MISSING for file in files)
    if not known or not isinstance(names, list | None):  # told elsewhere
        return []
    names = set_names(validation)
    kinds = ["", *(f"_{name}" for name in names), f"_{MEAN_OF_SETS}"] if len(names) > 1 else [""]
    return [f"val_{score}{kind}" for score in ("loss", "sacreBLEU") for kind in kinds]


def _checkpoint_problems(params: Mapping[str, Any], resumes: bool) -> Iterator[str]:
    steps, epochs = params.get("every_n_train_steps"), params.get("every_n_epochs", 1)
    if steps and epochs:
        default = "" if "every_n_epochs" in params else " (the default)"
        yield (
            f"{CHECKPOINT} has every_n_train_steps={steps} and every_n_epochs={epochs}{default}, but allows only one; "
            "set every_n_epochs=null."
        )
    for key, needs in UNSUPPORTED_PARAMS.items():
        if (value := params.get(key)) not in (None, False, -1):
            yield f"{CHECKPOINT}.{key}={value}: {needs}."
    for key, value in (("save_last", False), ("save_weights_only", True)):
        if resumes and params.get(key) is value:
            yield (
                f"{CHECKPOINT}.{key}={str(value).lower()}: leaves no checkpoint to go on from, as "
                f"{SECTION}.resume_if_exists=true does; leave one of both out."
            )
    if params.get("always_save_nemo") and params.get("save_best_model"):
        yield (
            f"{CHECKPOINT} has always_save_nemo=true and save_best_model=true, with which NeMo would run code that a "
            "checkpoint may contain; set always_save_nemo=false to get the .nemo of the best model after training."
        )


def _average_problems(ema: Any) -> Iterator[str]:
    """Rejects `ema`: NeMo validates and selects checkpoints by averaged weights, but saves others in the `.nemo`."""
    if not isinstance(ema, Mapping):
        yield f"{SECTION}.ema={ema}: must be a section of keys."
    elif ema.get("enable"):
        yield (
            f"{SECTION}.ema.enable=true: NeMo validates with averaged weights, but writes the weights without "
            "averaging to the .nemo; it must be false. Set the key ema instead, such as ema=0.999."
        )


def _unaveraged_problems(params: Mapping[str, Any], ema: Any) -> Iterator[str]:
    """Yields a sentence for each option with which NeMo would write weights without averaging."""
    if params.get("save_weights_only"):
        yield f"ema={ema}: {CHECKPOINT}.save_weights_only=true would save weights without averaging; set it to false."
    if params.get("always_save_nemo") and not params.get("save_best_model"):  # both together are always refused
        yield f"ema={ema}: {CHECKPOINT}.always_save_nemo=true would save weights without averaging; set it to false."


def _file_problems(section: Mapping[str, Any]) -> Iterator[str]:
    files = section.get("files_to_copy") or []
    if not isinstance(files, list):
        yield f"{SECTION}.files_to_copy={files}: must be a list of files."
        files = []
    named = [("resume_from_checkpoint", section.get("resume_from_checkpoint")), *(("files_to_copy", f) for f in files)]
    for key, path in named:
        if path and not user_path(path).exists():
            yield f"{SECTION}.{key} names '{path}', which does not exist."


def _other_problems(section: Mapping[str, Any]) -> Iterator[str]:
    if section.get("log_local_rank_0_only") and section.get("log_global_rank_0_only"):
        yield f"{SECTION} has log_local_rank_0_only=true and log_global_rank_0_only=true; set one of them to false."
    if "/" in str(section.get("name")):
        yield f"{SECTION}.name={section['name']}: must not contain /, because it begins the names of checkpoints."
    limit = section.get("max_time_per_run")
    if limit is not None and not (isinstance(limit, str) and DURATION.fullmatch(limit.strip())):
        yield f"{SECTION}.max_time_per_run={limit}: must be days:hours:minutes:seconds, such as '00:03:30:00'."
