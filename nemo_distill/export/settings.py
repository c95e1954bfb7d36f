"""The settings of an export. They are checked before NeMo is imported."""

from functools import cached_property
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Annotated, Literal, get_args

from omegaconf import OmegaConf
from pydantic import Field

from nemo_distill.config.section import changed, rule, section
from nemo_distill.export.browser_page import INSTALL, library_problems, normalizer_problems
from nemo_distill.export.browser_page import QUANTIZATIONS as OF_BROWSERS
from nemo_distill.export.hugging_face_tokenizer import tokenizer_problems
from nemo_distill.export.record import RECORD_NAME
from nemo_distill.export.supported import OF_HUGGING_FACE, unsupported
from nemo_distill.nemo_files.archive import ARTIFACT_PREFIX, NemoArchive, NemoFile
from nemo_distill.nemo_files.model_kinds import LANGUAGE_KEYS, SIDES, learned_positions
from nemo_distill.nemo_files.translation_archive import (
    archived_vocabulary,
    readable_tokenizers,
    translation_archive,
)
from nemo_distill.storage.files import UserPath
from nemo_distill.text.languages import NO_LANGUAGE

Quantization = Literal[
    "float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16"
]
QUANTIZATIONS = get_args(Quantization)
ONLY_FOR = {  # formats by the keys that others do not have
    "quantization": ["ctranslate2", "browser"],
    "max_positions": ["ctranslate2", "hugging_face", "browser"],
    "pretokenized": ["hugging_face"],
    "node_modules": ["browser"],
}
PACKAGES = {"ctranslate2": ["ctranslate2"], "onnx": ["onnx"], "browser": ["onnx", "onnxruntime"]}  # of extras


@section
class ExportSettings:
    """One export."""

    model: NemoFile
    """The `.nemo`."""
    output: UserPath
    """The folder to write."""
    format: Literal["ctranslate2", "hugging_face", "onnx", "browser"] = "ctranslate2"
    """`ctranslate2`; `hugging_face`, for its class `AutoModelForSeq2SeqLM`; `onnx`: three graphs; or `browser`: a page
    that translates without a server. The packages for `ctranslate2` and `onnx` are extras of the same names; `browser`
    needs the extra `onnx`, and `node_modules`."""
    quantization: Quantization = "float32"
    """Type of the weights, for CTranslate2 and the browser, which has only `float32` and `int8`. `float32` changes
    nothing, `int8` is the smallest. `int8_float16` and `int8_bfloat16` keep what cannot be int8 as float16 or
    bfloat16. Measure what it costs: give `development`."""
    max_positions: Annotated[int, Field(ge=3)] | None = None
    """Maximum number of tokens of a source, with its two special symbols, and of a translation, except for ONNX. null:
    the model's `max_sequence_length`. NeMo can continue fixed positions beyond it, an export cannot."""
    pretokenized: bool = False
    """Input and output are text as Moses tokenizes it, for Hugging Face. Must be true for models whose text NeMo
    tokenizes with Moses, because no tokenizer of Hugging Face does the same."""
    node_modules: UserPath | None = None
    """For the browser: the folder of this name in which npm has installed the library `@huggingface/transformers`.
    What the page needs is copied from there."""
    force: bool = False
    """Replace an earlier export in `output`."""

    @cached_property
    def _archive(self) -> NemoArchive:
        """The `.nemo`. All rules read it here, because unpacking a compressed one takes long."""
        return NemoArchive(self.model)

    @rule
    def package_problems(self) -> list[str]:
        """Returns a sentence if the format's package is missing."""
        missing = [name for name in PACKAGES.get(self.format, ()) if not find_spec(name)]
        return [missing_package(name, PACKAGES[self.format][0]) for name in missing[:1]]

    @rule
    def format_problems(self) -> list[str]:
        """Returns a sentence for each key that has no effect on this format."""
        return [
            f"{key}={str(value).lower()}: only for format={' and '.join(formats)}; remove it."
            for key, value in changed(self, *ONLY_FOR).items()
            if self.format not in (formats := ONLY_FOR[key])
        ]

    @rule
    def browser_problems(self) -> list[str]:
        """Returns a sentence for each setting that the page cannot follow."""
        if self.format != "browser":
            return []
        problems = []
        if self.quantization not in OF_BROWSERS:
            allowed = " and ".join(OF_BROWSERS)
            problems.append(f"quantization={self.quantization}: format=browser has only {allowed}.")
        if self.node_modules is None:
            problems.append(f"node_modules has no value: format=browser copies files that '{INSTALL}' writes there.")
        else:
            problems += library_problems(self.node_modules)
        return problems

    @rule
    def output_problems(self) -> list[str]:
        """Returns a sentence if there is something in the output's place that is not to be replaced."""
        if not self.output.exists():
            return []
        if not self.force:
            return [f"output='{self.output}' already exists; choose another folder, or set force=true to replace it."]
        if not (self.output / RECORD_NAME).is_file():
            return [f"output='{self.output}' is not an earlier export, so force=true does not replace it."]
        named = {"model": self.model, "node_modules": self.node_modules}
        return [
            f"output='{self.output}' holds {key}='{path}', which would be deleted with it; move it elsewhere."
            for key, path in named.items()
            if path is not None and path.resolve().is_relative_to(self.output.resolve())
        ]

    @rule
    def model_problems(self) -> list[str]:
        """Returns a sentence for each property of the model that the format cannot express, or why it cannot run."""
        config = OmegaConf.to_container(self._archive.config)
        return unsupported(config, self.format) or self._restoring_problems

    @cached_property
    def _restoring_problems(self) -> list[str]:
        """Returns a sentence if NeMo could not restore the model, or must not."""
        try:
            readable_tokenizers(translation_archive(self.model))
        except ValueError as error:
            return [f"model={self.model}: {error}."]
        return []

    @rule
    def text_problems(self) -> list[str]:
        """Returns a sentence if NeMo tokenizes text as no tokenizer of Hugging Face does."""
        if self.format not in OF_HUGGING_FACE:
            return []
        config = self._archive.config
        moses = {key: config.get(key) for key in LANGUAGE_KEYS if config.get(key) not in (None, NO_LANGUAGE)}
        if not moses and self.pretokenized:
            return ["pretokenized=true: this model tokenizes no text with Moses; set it to false."]
        if not moses or self.pretokenized:
            return []
        named = " and ".join(f"{key}={value}" for key, value in moses.items())
        if self.format == "browser":
            return [f"{named}: NeMo tokenizes text of this model with Moses, which the page cannot do."]
        return [
            f"{named}: NeMo tokenizes text of this model with Moses, which no tokenizer of Hugging Face does; set "
            "pretokenized=true to export a model for text that is tokenized already."
        ]

    @rule
    def tokenizer_problems(self) -> list[str]:
        """Returns a sentence for each property of a tokenizer that Hugging Face's cannot have."""
        if self.format not in OF_HUGGING_FACE or self._restoring_problems:
            return []
        archive, problems = self._archive, list[str]()
        encoder, decoder = (archived_vocabulary(archive, side) for side in SIDES)
        if archive.config.get("shared_embeddings") and encoder != decoder:
            problems.append(
                "shared_embeddings=true: Hugging Face's models have one tokenizer, and this model has two."
            )
        with TemporaryDirectory() as folder:
            for side in SIDES:
                artifact = str((archive.config.get(f"{side}_tokenizer") or {}).get("tokenizer_model") or "")
                if artifact.startswith(ARTIFACT_PREFIX):  # the others are told by `model_problems`
                    path = archive.extract_artifact(artifact, folder)
                    problems += tokenizer_problems(side, path)
                    problems += normalizer_problems(side, path) if self.format == "browser" else []
        return problems

    @rule
    def position_problems(self) -> list[str]:
        """Returns a sentence for each side that has learned fewer positions than are wanted."""
        return [
            f"max_positions={self.max_positions}: the {side} has learned {known} positions."
            for side, known in learned_positions(self._archive.config).items()
            if self.max_positions is not None and self.max_positions > known
        ]


def missing_package(name: str, extra: str = "") -> str:
    """Returns a sentence that says how to install an optional package. By default, the extra has the same name."""
    return f"{name} is not installed: pip install 'nemo_distill[{extra or name}]'."
