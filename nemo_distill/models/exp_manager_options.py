"""What exp_manager, NeMo's keeper of logs and checkpoints, cannot do with its options, told before it is imported.

Each of these ends in a stack trace otherwise: of NeMo or Lightning when the trainer is built, at the first checkpoint,
or at the first validation, after an epoch of training. Moving averages end in nothing but other weights.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from omegaconf import OmegaConf
from pydantic import Field

from nemo_distill.config.checks import MISSING
from nemo_distill.config.known_values import FromZero, FromZeroOrNone
from nemo_distill.config.section import argument_problem
from nemo_distill.models.named_evaluation import set_names
from nemo_distill.storage.files import user_path

SECTION = "exp_manager"
CHECKPOINT = f"{SECTION}.checkpoint_callback_params"
STOPPING = f"{SECTION}.early_stopping_callback_params"
Mode = Literal["min", "max"]
VALUES: dict[str, Mapping[str, Any]] = {  # types by section and key
    CHECKPOINT: {
        "save_top_k": Annotated[int, Field(ge=-1)],
        "every_n_epochs": FromZeroOrNone,
        "every_n_train_steps": FromZeroOrNone,
        "mode": Mode,
    },
    STOPPING: {"mode": Mode, "patience": FromZero, "min_delta": float},
}
NEEDS = {  # of checkpoint_callback_params, what these would need
    "async_save": "only distributed checkpoints are saved while training goes on; must be false",
    "save_last_n_optim_states": "only distributed checkpoints are stripped of optimizer states; must be -1",
    "train_time_interval": "needs a timedelta, which no config can hold; set every_n_train_steps",
}
A_TIME = re.compile(r"\d+:\d\d:\d\d:\d\d")  # days, hours, minutes and seconds


def exp_manager_problems(section: Mapping[str, Any], validation: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with a job's section `exp_manager`, a sentence each.

    Args:
        section: it, resolved.
        validation: the job's section `model.validation_ds`, whose scores are monitored.
    """
    parts = {name: section.get(name.removeprefix(f"{SECTION}.")) or {} for name in (CHECKPOINT, STOPPING)}
    broken = [name for name, part in parts.items() if not isinstance(part, Mapping)]
    if broken:
        return [f"{name}={parts[name]}: must be a section of keys." for name in broken]
    problems = [
        problem
        for name, part in parts.items()
        for key, type_ in VALUES[name].items()
        if key in part and (problem := argument_problem(f"{name}.{key}", part[key], type_))
    ]
    for name, part in parts.items():
        problems += _monitor_problems(name, part, validation)
    return [
        *problems,
        *_checkpoint_problems(parts[CHECKPOINT]),
        *_average_problems(section.get("ema") or {}),
        *_file_problems(section),
        *_other_problems(section),
    ]


def _monitor_problems(name: str, params: Mapping[str, Any], validation: Mapping[str, Any]) -> Iterator[str]:
    """Of a score that no validation logs, and of one whose worst value would be taken for its best."""
    monitor, mode = params.get("monitor", "val_loss"), params.get("mode", "min")  # NeMo's defaults
    if not isinstance(monitor, str):
        yield f"{name}.monitor={monitor}: must be the name of a score, such as val_loss."
        return
    logged = _validation_scores(validation)
    if monitor.startswith("val_") and logged and monitor not in logged:
        yield f"{name}.monitor={monitor}: no validation gives this score; known are {', '.join(logged)}."
    better = "max" if "BLEU" in monitor else "min" if "loss" in monitor else mode
    if mode in get_args(Mode) and mode != better:
        default = "" if "mode" in params else ", the default,"
        yield f"{name} has monitor={monitor}, of which mode={mode}{default} takes the worst; set mode={better}."


def _validation_scores(validation: Mapping[str, Any]) -> list[str]:
    """The names of the scores that validation logs; none where it is not known which sets there are."""
    if validation.get("src_file_name") in (None, MISSING, []):
        return []
    names = set_names(OmegaConf.create(dict(validation)))
    kinds = ["", *(f"_{name}" for name in names), "_avg"] if len(names) > 1 else [""]
    return [f"val_{score}{kind}" for score in ("loss", "sacreBLEU") for kind in kinds]


def _checkpoint_problems(params: Mapping[str, Any]) -> Iterator[str]:
    steps, epochs = params.get("every_n_train_steps"), params.get("every_n_epochs", 1)
    if steps and epochs:
        default = "" if "every_n_epochs" in params else " (the default)"
        yield (
            f"{CHECKPOINT} has every_n_train_steps={steps} and every_n_epochs={epochs}{default}, which exclude each "
            "other; set every_n_epochs=null."
        )
    for key, needs in NEEDS.items():
        if (value := params.get(key)) not in (None, False, -1):
            yield f"{CHECKPOINT}.{key}={value}: {needs}."


def _average_problems(ema: Any) -> Iterator[str]:
    """NeMo validates, and chooses the best checkpoint, by averages that then are in no `.nemo`."""
    if not isinstance(ema, Mapping):
        yield f"{SECTION}.ema={ema}: must be a section of keys."
    elif ema.get("enable"):
        yield (
            f"{SECTION}.ema.enable=true: NeMo validates with averaged weights, but writes those that are not averaged "
            "into the .nemo; it must be false."
        )


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
    limit = section.get("max_time_per_run")
    if limit is not None and not (isinstance(limit, str) and A_TIME.fullmatch(limit.strip())):
        yield f"{SECTION}.max_time_per_run={limit}: must be days:hours:minutes:seconds, such as '00:03:30:00'."
