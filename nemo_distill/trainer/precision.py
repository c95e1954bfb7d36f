"""What `trainer.precision=auto` means: bfloat16 where the device computes it faster, float32 elsewhere.

A CPU needs instructions for products of bfloat16; others emulate them, which is slower than float32. Narrow models
spend their time elsewhere, so that bfloat16 would round their numbers for nothing.
"""

from functools import cache
from pathlib import Path

import torch

AUTO, FLOAT32, MIXED = "auto", "32-true", "bf16-mixed"
LEAST_WIDTH = 256
CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # of x86, of x86 and of ARM, as Linux names them
CPU_INFO = Path("/proc/cpuinfo")
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
    flags = _cpu_flags()
    return next((flag for flag in CPU_FLAGS if flag in flags), None)


def _cpu_flags() -> set[str]:
    if not CPU_INFO.is_file():
        return set()
    lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    return {
        flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()
    }


def precision_for(width: int, unit: str | None) -> str:
    """Returns Lightning's name of the precision for a model of this width, where `unit` computes bfloat16."""
    return MIXED if unit and width >= LEAST_WIDTH else FLOAT32
