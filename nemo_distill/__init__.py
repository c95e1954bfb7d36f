"""Knowledge distillation for neural machine translation with NVIDIA NeMo.

The public names are imported on first use, because those that need NeMo take seconds to import.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ConfigurationError": "nemo_distill.config.errors",
    "DistillableMTEncDecModel": "nemo_distill.models.mt_enc_dec_model",
    "DistillationMixin": "nemo_distill.core.distillation_mixin",
    "DistillationModelPT": "nemo_distill.core.distillation_model",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nemo_distill' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
