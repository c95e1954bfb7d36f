"""What `auto` means as a precision, in trainings and elsewhere: bfloat16 where the device computes it faster.

A CPU needs instructions for products of bfloat16; others emulate them, which is slower than float32. Narrow models
spend their time elsewhere, so that bfloat16 would round their numbers for nothing.
"""

from functools import cache

import torch

from nemo_distill.console import console
from nemo_distill.storage.made_with import cpu_flags

AUTO, FLOAT32, MIXED = "auto", "32-true", "bf16-mixed"
DTYPES = {MIXED: "bfloat16", FLOAT32: "float32"}  # names of torch for Lightning's
LEAST_WIDTH = 256
CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # of x86, of x86 and of ARM, as Linux names them
FIRST_CAPABILITY = (8, 0)  # CUDA's, of the first GPUs with units for bfloat16
GPU = ("auto", "gpu", "cuda")


@cache
def bfloat16_unit(accelerator: str) -> str | None:
    """Returns what computes bfloat16 faster than float32 on the device of a training; None if nothing does.

    Args:
        accelerator: Lightning's name, such as `auto`, `cpu` or `gpu`.
    """
    if accelerator in GPU and torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        return f"CUDA capability {'.'.join(map(str, capability))}" if capability >= FIRST_CAPABILITY else None
    if accelerator not in ("auto", "cpu"):
        return None
    flags = cpu_flags()
    return next((flag for flag in CPU_FLAGS if flag in flags), None)


def precision_for(width: int, unit: str | None) -> str:
    """Returns Lightning's name of the precision for a model of this width, where `unit` computes bfloat16."""
    return MIXED if unit and width >= LEAST_WIDTH else FLOAT32


def tell_choice(key: str, chosen: str, width: int, unit: str | None) -> None:
    """Prints what `auto` has chosen, and why.

    Args:
        key: the key whose value is `auto`.
        chosen: the precision.
        width: the model's width.
        unit: what `bfloat16_unit` has found.
    """
    found = unit or "nothing that computes bfloat16 faster than float32"
    console.info(f"{key}=auto: {chosen} for width {width}; this device has {found}.")


@cache
def warn_of_emulation(key: str, value: str, accelerator: str) -> None:
    """Warns, once, if a precision is bfloat16 and the device has nothing that computes it.

    Args:
        key: the key of the precision.
        value: torch's or Lightning's name of the precision.
        accelerator: Lightning's or torch's name, such as `gpu`, `cpu` or `cuda:1`.
    """
    kind = accelerator.partition(":")[0]
    if value.startswith(("bf16", "bfloat16")) and kind in (*GPU, "cpu") and not bfloat16_unit(kind):
        console.warning(f"{key}={value}: this device emulates bfloat16, which can be ten times slower than float32.")


def chosen_dtype(key: str, width: int, accelerator: str) -> str:
    """Returns `bfloat16` or `float32`, by the rule of trainings, and prints it.

    Args:
        key: the key whose value is `auto`.
        width: the model's width.
        accelerator: Lightning's or torch's name, such as `gpu`, `cpu` or `cuda:1`.
    """
    unit = bfloat16_unit(accelerator.partition(":")[0])
    dtype = DTYPES[precision_for(width, unit)]
    tell_choice(key, dtype, width, unit)
    return dtype


def torch_device(accelerator: str) -> str:
    """Returns `cpu` or `cuda`, the kind of device behind Lightning's name."""
    return "cuda" if accelerator in GPU and torch.cuda.is_available() else "cpu"
