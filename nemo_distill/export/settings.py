"""The settings of an export. They are checked before NeMo is imported."""

from importlib.util import find_spec
from typing import Annotated, Literal, get_args

from omegaconf import OmegaConf
from pydantic import Field

from nemo_distill.config.section import rule, section
from nemo_distill.export.record import RECORD_NAME
from nemo_distill.export.supported import unsupported
from nemo_distill.nemo_files.archive import NemoArchive, NemoFile
from nemo_distill.nemo_files.translation_archive import SIDES
from nemo_distill.storage.files import UserPath

Quantization = Literal[
    "float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16"
]
QUANTIZATIONS = get_args(Quantization)


@section
class ExportSettings:
    """One export."""

    model: NemoFile
    """The `.nemo`."""
    output: UserPath
    """The folder to write."""
    format: Literal["ctranslate2", "onnx"] = "ctranslate2"
    """`ctranslate2`, or `onnx`: three graphs. Each is the name of the package that it needs, and of the extra that
    installs it."""
    quantization: Quantization = "float32"
    """Of CTranslate2's weights. `float32` changes nothing, `int8` is the smallest; `int8_float16` and `int8_bfloat16`
    name the type of what stays a float. What it costs is to be measured, on the export."""
    max_positions: Annotated[int, Field(ge=3)] | None = None
    """Of CTranslate2: the most tokens of a source, its two special symbols included, and of a translation; null: the
    model's own `max_sequence_length`. NeMo computes fixed positions beyond it on demand, CTranslate2 ends there."""
    force: bool = False
    """Replace an earlier export in `output`."""

    @rule
    def package_problems(self) -> list[str]:
        """Returns a sentence if the format's package is missing."""
        return [] if find_spec(self.format) else [missing_package(self.format)]

    @rule
    def format_problems(self) -> list[str]:
        """Returns a sentence for each key that has no effect on this format."""
        if self.format != "onnx":
            return []
        given = {"quantization": self.quantization, "max_positions": self.max_positions}
        return [
            f"{key}={value}: only for format=ctranslate2; remove it."
            for key, value in given.items()
            if value != getattr(ExportSettings, key)
        ]

    @rule
    def output_problems(self) -> list[str]:
        """Returns a sentence if there is something in the output's place that is not to be replaced."""
        if not self.output.exists():
            return []
        if not self.force:
            return [f"output='{self.output}' already exists; choose another folder, or set force=true to replace it."]
        if not (self.output / RECORD_NAME).is_file():
            return [f"output='{self.output}' is not an earlier export, so force=true does not replace it."]
        return []

    @rule
    def model_problems(self) -> list[str]:
        """Returns a sentence for each property of the model that the format cannot express."""
        return unsupported(OmegaConf.to_container(NemoArchive(self.model).config), self.format)

    @rule
    def position_problems(self) -> list[str]:
        """Returns a sentence for each side that has learned fewer positions than are wanted."""
        config = NemoArchive(self.model).config
        stacks = {side: config.get(side) or {} for side in SIDES}
        learned = {
            side: stack.get("max_sequence_length", 512)
            for side, stack in stacks.items()
            if stack.get("learn_positional_encodings")
        }
        return [
            f"max_positions={self.max_positions}: the {side} has learned {known} positions."
            for side, known in learned.items()
            if self.max_positions is not None and self.max_positions > known
        ]


def missing_package(name: str) -> str:
    """Returns a sentence that says how to install an optional package. The extra has the same name."""
    return f"{name} is not installed: pip install 'nemo_distill[{name}]'."
