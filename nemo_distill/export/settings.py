"""The settings of an export. They are checked before NeMo is imported."""

from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Annotated, Literal, get_args

from omegaconf import OmegaConf
from pydantic import Field

from nemo_distill.config.section import rule, section
from nemo_distill.export.hugging_face_tokenizer import tokenizer_problems
from nemo_distill.export.record import RECORD_NAME
from nemo_distill.export.supported import unsupported
from nemo_distill.nemo_files.archive import ARTIFACT_PREFIX, NemoArchive, NemoFile
from nemo_distill.nemo_files.translation_archive import SIDES
from nemo_distill.storage.files import UserPath

Quantization = Literal[
    "float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16"
]
QUANTIZATIONS = get_args(Quantization)
ONLY_FOR = {  # formats by the keys that others do not have
    "quantization": ["ctranslate2"],
    "max_positions": ["ctranslate2", "hugging_face"],
    "pretokenized": ["hugging_face"],
}


@section
class ExportSettings:
    """One export."""

    model: NemoFile
    """The `.nemo`."""
    output: UserPath
    """The folder to write."""
    format: Literal["ctranslate2", "hugging_face", "onnx"] = "ctranslate2"
    """`ctranslate2`; `hugging_face`, for its class `AutoModelForSeq2SeqLM`; or `onnx`: three graphs. The packages for
    `ctranslate2` and `onnx` are extras of the same names."""
    quantization: Quantization = "float32"
    """Type of the weights, for CTranslate2. `float32` changes nothing, `int8` is the smallest. `int8_float16` and
    `int8_bfloat16` keep what cannot be int8 as float16 or bfloat16. Measure what it costs: give `development`."""
    max_positions: Annotated[int, Field(ge=3)] | None = None
    """Maximum number of tokens of a source, with its two special symbols, and of a translation, for CTranslate2 and
    Hugging Face. null: the model's `max_sequence_length`. NeMo can continue fixed positions beyond it, an export
    cannot."""
    pretokenized: bool = False
    """Input and output are text as Moses tokenizes it, for Hugging Face. Must be true for models whose text NeMo
    tokenizes with Moses, because no tokenizer of Hugging Face does the same."""
    force: bool = False
    """Replace an earlier export in `output`."""

    @rule
    def package_problems(self) -> list[str]:
        """Returns a sentence if the format's package is missing."""
        needs_extra = self.format != "hugging_face"  # which NeMo needs itself
        return [missing_package(self.format)] if needs_extra and not find_spec(self.format) else []

    @rule
    def format_problems(self) -> list[str]:
        """Returns a sentence for each key that has no effect on this format."""
        return [
            f"{key}={str(value).lower()}: only for format={' and '.join(formats)}; remove it."
            for key, formats in ONLY_FOR.items()
            if (value := getattr(self, key)) != getattr(ExportSettings, key) and self.format not in formats
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
    def text_problems(self) -> list[str]:
        """Returns a sentence if NeMo tokenizes text as no tokenizer of Hugging Face does."""
        if self.format != "hugging_face":
            return []
        config = NemoArchive(self.model).config
        keys = ("src_language", "tgt_language")
        moses = {key: config.get(key) for key in keys if config.get(key) not in (None, "ignore")}
        if not moses and self.pretokenized:
            return ["pretokenized=true: this model tokenizes no text with Moses; set it to false."]
        if not moses or self.pretokenized:
            return []
        named = " and ".join(f"{key}={value}" for key, value in moses.items())
        return [
            f"{named}: NeMo tokenizes text of this model with Moses, which no tokenizer of Hugging Face does; set "
            "pretokenized=true to export a model for text that is tokenized already."
        ]

    @rule
    def tokenizer_problems(self) -> list[str]:
        """Returns a sentence for each property of a tokenizer that Hugging Face's cannot have."""
        if self.format != "hugging_face":
            return []
        archive = NemoArchive(self.model)
        problems = []
        with TemporaryDirectory() as folder:
            for side in SIDES:
                artifact = str((archive.config.get(f"{side}_tokenizer") or {}).get("tokenizer_model") or "")
                if artifact.startswith(ARTIFACT_PREFIX):  # the others are told by `model_problems`
                    problems += tokenizer_problems(side, archive.extract_artifact(artifact, folder))
        return problems

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
