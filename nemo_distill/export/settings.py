"""What to export, where to and how; checked before NeMo is imported."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nemo_distill.export.record import RECORD_NAME
from nemo_distill.export.supported import unsupported
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.translation_archive import SIDES

FORMATS = ("ctranslate2", "onnx")  # each the name of the package that it needs, and of the extra that installs it
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
FEWEST_POSITIONS = 3  # one token between the beginning and the end


@dataclass(frozen=True)
class ExportSettings:
    """One export.

    Args:
        model: the `.nemo`.
        output: the folder to write.
        format: `ctranslate2` or `onnx`.
        quantization: of CTranslate2's weights; `int8_float16` and `int8_bfloat16` name the type of what stays a float.
        max_positions: rows of CTranslate2's table of positions, so the most tokens that a source, its two special
            symbols included, or a translation can have; None for the model's own `max_sequence_length`. NeMo computes
            fixed positions beyond it on demand, CTranslate2 ends at the table.
        force: replace an earlier export in `output`.
    """

    model: Path
    output: Path
    format: str = "ctranslate2"
    quantization: str = "float32"
    max_positions: int | None = None
    force: bool = False

    def problems(self) -> list[str]:
        """Returns a sentence for each thing that keeps the export from being made, the model's own included."""
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
                    problems.append(f"{key}={getattr(self, key)}: belongs to format=ctranslate2; leave it out.")
        elif self.max_positions is not None and not _at_least(self.max_positions, FEWEST_POSITIONS):
            problems.append(f"max_positions={self.max_positions}: must be null or at least {FEWEST_POSITIONS}.")
        return problems

    def _output_problems(self) -> list[str]:
        if not self.output.exists():
            return []
        if not self.force:
            return [f"output='{self.output}' exists already; name another, or replace it with force=true."]
        if not (self.output / RECORD_NAME).is_file():
            return [f"output='{self.output}' is no earlier export, and force=true replaces nothing else."]
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
                problems.append(f"max_positions={self.max_positions}: the {side} has learned {known} positions.")
        return problems


def _at_least(value: Any, minimum: int) -> bool:
    return isinstance(value, int) and value >= minimum


def missing_package(name: str) -> str:
    """Returns the sentence that says how to install an optional package whose extra has its name."""
    return f"{name} is not installed: pip install 'nemo_distill[{name}]'."
