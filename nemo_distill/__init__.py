"""Knowledge distillation for neural machine translation with NVIDIA NeMo.

These are the names that programs import. Each is imported when it is first used, because those that need NeMo take
seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemo_distill.config.errors import ConfigurationError as ConfigurationError
    from nemo_distill.config.errors import DataError as DataError
    from nemo_distill.core.distillation_mixin import DistillationMixin as DistillationMixin
    from nemo_distill.core.distillation_model import DistillationModelPT as DistillationModelPT
    from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine as CTranslate2Engine
    from nemo_distill.decoding.engines import load_engine as load_engine
    from nemo_distill.decoding.settings import SearchSettings as SearchSettings
    from nemo_distill.models.mt_enc_dec_model import DistillableMTEncDecModel as DistillableMTEncDecModel

__version__ = "0.1.0"

_HOMES = {
    "CTranslate2Engine": "nemo_distill.decoding.ctranslate2_engine",
    "ConfigurationError": "nemo_distill.config.errors",
    "DataError": "nemo_distill.config.errors",
    "DistillableMTEncDecModel": "nemo_distill.models.mt_enc_dec_model",
    "DistillationMixin": "nemo_distill.core.distillation_mixin",
    "DistillationModelPT": "nemo_distill.core.distillation_model",
    "SearchSettings": "nemo_distill.decoding.settings",
    "load_engine": "nemo_distill.decoding.engines",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nemo_distill' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
