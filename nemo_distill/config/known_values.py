"""The allowed values of NeMo's and Lightning's keys. They are used to report errors before the slow imports."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from nemo_distill.config.checks import MISSING, section_at
from nemo_distill.config.section import Allowed, argument_problem

Count = Annotated[int, Field(ge=1)]
CountOrNone = Count | None
FromZero = Annotated[int, Field(ge=0)]
FromZeroOrNone = FromZero | None
Limit = Annotated[int, Field(ge=-1)] | None  # -1: none
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Accelerator = Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"]


def _are_devices(devices: int | str | list[int]) -> int | str | list[int]:
    numbers: Any = devices if isinstance(devices, list) else [devices]
    if isinstance(devices, str):
        numbers = [int(part) if part.strip().lstrip("-").isdigit() else part for part in devices.split(",")]
    fits = devices == "auto" or all(isinstance(number, int) for number in numbers)
    if fits and numbers not in ([], [0]) and (len(numbers) > 1 or numbers[0] == "auto" or numbers[0] >= -1):
        return devices
    raise PydanticCustomError("devices", "these are no devices")


Devices = Annotated[
    int | str | list[int],
    AfterValidator(_are_devices),
    Allowed("a number of at least 1, -1 or auto for all, or a list of the devices' numbers"),
]
OPTIMIZERS = """
adadelta adafactor adagrad adam adamax adamw adan asgd distributed_fused_adam fused_adam lion mcore_distributed_optim
nadam novograd radam rmsprop rprop sgd
""".split()
SCHEDULES = """
CosineAnnealing CosineAnnealingExp CyclicLR ExponentialLR InverseSquareRootAnnealing NoamAnnealing NoamHoldAnnealing
PolynomialDecayAnnealing PolynomialHoldDecayAnnealing ReduceLROnPlateau SquareAnnealing SquareRootAnnealing
SquareRootConstantPolicy StepLR T5InverseSquareRootAnnealing WarmupAnnealing WarmupHoldPolicy WarmupPolicy
""".split()
PRECISIONS = (
    *(64, 32, 16, "64", "32", "16", "bf16", "64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"),
    *("transformer-engine", "transformer-engine-float16", "auto", None),  # auto: ours
)
DATA = {
    **dict.fromkeys(("tokens_in_batch", "max_seq_length"), Count),
    **dict.fromkeys(("num_workers", "min_seq_length", "max_seq_length_diff"), FromZero),
    "max_seq_length_ratio": Annotated[float, Field(ge=1)],
    "clean": bool,
}
STACK = {
    **dict.fromkeys(("hidden_size", "inner_size", "num_layers", "num_attention_heads", "max_sequence_length"), Count),
    **dict.fromkeys(("embedding_dropout", "ffn_dropout", "attn_score_dropout", "attn_layer_dropout"), Share),
}
VALUES: dict[str, Mapping[str, Any]] = {  # types by section and key
    "": {"seed": FromZero, "ema": Annotated[float, Field(gt=0, lt=1)] | None},
    "model": {
        "beam_size": Count,
        "len_pen": NotNegative,
        "label_smoothing": Share,
        "search": Literal["nemo_distill", "nemo"],  # ours: what validation translates with
        "preproc_out_dir": str | None,
        "preproc_overwrite": bool,  # ours
    },
    **{f"model.{section}": DATA for section in ("train_ds", "validation_ds", "test_ds")},
    **{f"model.{side}": STACK for side in ("encoder", "decoder")},
    **{f"model.{side}_tokenizer": {"vocab_size": CountOrNone} for side in ("encoder", "decoder")},
    "model.optim": {"lr": Positive, "weight_decay": NotNegative, "name": Literal[tuple(OPTIMIZERS)]},
    "model.optim.sched": {
        "name": Literal[tuple(SCHEDULES)],
        "warmup_steps": FromZeroOrNone,
        "warmup_ratio": Share | None,
    },
    "trainer": {
        "accelerator": Accelerator,
        "precision": Literal[PRECISIONS],
        "max_steps": Annotated[int, Field(ge=-1)],
        "max_epochs": Limit,
        "num_nodes": Count,
        "accumulate_grad_batches": Count,
        "devices": Devices,
    },
}


def wrong_values(cfg: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each value of a job's config, resolved, that its key cannot have."""
    found = (
        argument_problem(f"{section}.{key}".removeprefix("."), value, types[key])
        for section, types in VALUES.items()
        for key, value in section_at(cfg, section).items()
        if key in types and value != MISSING
    )
    return [problem for problem in found if problem]
