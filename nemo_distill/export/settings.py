"""The settings of an export. They are checked before NeMo is imported."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_distill.export.record import RECORD_NAME
from nemo_distill.export.supported import unsupported
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.translation_archive import SIDES

FORMATS = ("ctranslate2", "onnx")  # also the names of the required packages and of the extras that install them
QUANTIZATIONS = (
    "float32",
    "float16",
    "bfloat16",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
)
MIN_POSITIONS = 3  # start, one token, end


@dataclass(frozen=True)
class ExportSettings:
    """The settings of an export.

    Args:
        model: the `.nemo`.
        output: the folder to write.
        format: `ctranslate2` or `onnx`.
        quantization: the type of CTranslate2's weights. In `int8_float16` and `int8_bfloat16`, the second type is used
            for tensors that are not quantized.
        max_positions: number of rows in CTranslate2's position tables. It limits the tokens of a source (including two
            special symbols) and of a translation. None: the model's own `max_sequence_length`. NeMo extends fixed
            positions on demand, CTranslate2 does not.
        force: replace an earlier export in `output`.
    """

    model: Path
    output: Path
    format: str = "ctranslate2"
    quantization: str = "float32"
    max_positions: int | None = None
    force: bool = False

    def problems(self) -> list[str]:
        """Returns all problems of the settings and of the model, one sentence each."""
        return [*self._value_problems(), *self._output_problems(), *self._model_problems()]

    def _value_problems(self) -> list[str]:
        problems = []
        for key, allowed in (("format", FORMATS), ("quantization", QUANTIZATIONS)):
            if getattr(self, key) not in allowed:
                problems.append(f"{key}={getattr(self, key)}: must be one of {', '.join(allowed)}.")
        if self.format in FORMATS and find_spec(self.format) is None:
            problems.append(missing_package(self.format))
        if self.format == "onnx":
            for key, default in (("quantization", "float32"), ("max_positions", None)):
                if getattr(self, key) != default:
                    problems.append(f"{key}={getattr(self, key)}: only for format=ctranslate2; remove it.")
        elif self.max_positions is not None and not _at_least(self.max_positions, MIN_POSITIONS):
            problems.append(f"max_positions={self.max_positions}: must be null or at least {MIN_POSITIONS}.")
        return problems

    def _output_problems(self) -> list[str]:
        if not self.output.exists():
            return []
        if not self.force:
            return [f"output='{self.output}' already exists; choose another folder, or set force=true to replace it."]
        if not (self.output / RECORD_NAME).is_file():
            return [f"output='{self.output}' is not an earlier export, so force=true does not replace it."]
        return []

    def _model_problems(self) -> list[str]:
        try:
            config = OmegaConf.to_container(NemoArchive(self.model).config)
        except ValueError as error:
            return [f"model: {error}."]
        problems = unsupported(config, self.format)
        for side in SIDES:
            stack = config.get(side) or {}
            known = stack.get("max_sequence_length", 512)
            if stack.get("learn_positional_encodings") and _at_least(self.max_positions, known + 1):
                problems.append(f"max_positions={self.max_positions}: the {side} has only {known} learned positions.")
        return problems


def _at_least(value: Any, minimum: int) -> bool:
    return isinstance(value, int) and value >= minimum


def missing_package(name: str) -> str:
    """Returns a sentence that says how to install an optional package. The extra has the same name."""
    return f"{name} is not installed: pip install 'nemo_distill[{name}]'."
