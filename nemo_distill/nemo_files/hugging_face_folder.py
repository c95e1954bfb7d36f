"""Describes the folder of a Hugging Face translation model in NeMo's keys, as if it were a `.nemo`.

Whoever needs a teacher's languages, sizes or tokenizers reads them from a folder in the same way as from a `.nemo`.
A folder may come from a stranger: `unsafe_reasons` says why transformers must not open it.
"""

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from omegaconf import DictConfig, OmegaConf

from nemo_distill.config.errors import DataError
from nemo_distill.nemo_files.archive import ARTIFACT_PREFIX, CONFIG_NAME, NemoArchive
from nemo_distill.nemo_files.model_kinds import HUGGING_FACE, SIDES
from nemo_distill.nemo_files.tokenizer_files import with_special_tokens
from nemo_distill.storage.files import missing_content, user_path
from nemo_distill.storage.folder_safety import escapes_folder
from nemo_distill.storage.records import MAX_SHOWN, read_json

SENTENCEPIECE = "sentencepiece.bpe.model"
# By the `model_type` of a family: the tokenizer files of source and target, and whether it reads only so many tokens
# as it has positions. NLLB is of M2M-100's type.
FAMILIES = {
    "marian": (("source.spm", "target.spm"), True),
    "m2m_100": ((SENTENCEPIECE, SENTENCEPIECE), False),
    "mbart": ((SENTENCEPIECE, SENTENCEPIECE), True),
}
LOCAL_ONLY = {"local_files_only": True, "trust_remote_code": False}  # no downloads, and no code from the folder
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
WEIGHTS_OF_ANY = (".bin", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".safetensors")
ADAPTER = "adapter_config.json"
# The types of sequence-to-sequence models without other models inside, which could be loaded from elsewhere.
FLAT_TYPES = (
    *FAMILIES, "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "fsmt", "led", "longt5", "mt5", "mvp",
    "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "switch_transformers", "t5", "umt5", "xlm-prophetnet",
)  # fmt: skip
PARTS_OF_FLAT_TYPES = ("fsmt_decoder",)  # FSMT writes it, and ignores it when it reads it
# Those left out open more than their own vocabulary: other tokenizers, or pickles.
TOKENIZER_CLASS = re.compile(r"(?!Auto|Rag|TF|TransfoXL)[A-Za-z0-9]+Tokenizer(Fast)?")
UNSAFE_KEYS = {
    "auto_map": "names code to run, and trust_remote_code is never set",
    "configuration_files": "replaces this file by another",
    "quantization_config": "chooses other code for the layers",
}
BY_SEQUENCE = "its translations still teach any student: sequence-level distillation, with engine=hugging_face"


def unsafe_reasons(folder: str | Path) -> list[str]:
    """Returns a sentence for each reason why transformers must not open a folder.

    `LOCAL_ONLY` is not sufficient: transformers still opens other folders that the files name, and runs their code.
    Reads only JSON. Everything that gives a folder to transformers calls this first.

    Args:
        folder: the folder, as `save_pretrained` writes it.
    """
    path = Path(folder)
    where = f"'{folder}' cannot be loaded:"
    reasons = [f"{where} it holds {ADAPTER}, which names another folder."] if (path / ADAPTER).exists() else []
    files = filter(Path.is_file, sorted(path.iterdir())) if path.is_dir() else ()
    reasons += [f"{where} {pointer}." for pointer in map(missing_content, files) if pointer]
    for name in ("config.json", "tokenizer_config.json"):
        try:
            values = read_json(path / name) or {}
        except DataError as error:
            reasons.append(f"{error}.")
            continue
        found = [*_unsafe_entries(values)]
        if name == "config.json" and (family := values.get("model_type")) not in FLAT_TYPES:
            found.append(f"model_type={_shown(family)}: must be one of {', '.join(FLAT_TYPES)}")
        if not _is_tokenizer(kind := values.get("tokenizer_class")):
            found.append(f"tokenizer_class={_shown(kind)}: must be the class of a tokenizer, such as MarianTokenizer")
        reasons += [f"{where} {name}: {reason}." for reason in found]
    for index in sorted(path.glob("*.index.json")):
        try:
            named = (read_json(index) or {}).get("weight_map") or {}
        except DataError as error:
            reasons.append(f"{error}.")
            continue
        weights = {_shown(file): file for file in (named.values() if isinstance(named, Mapping) else [named])}
        reasons += [
            f"{where} {index.name}: weight_map names {shown}, which is no file of this folder."
            for shown, file in weights.items()
            if not isinstance(file, str) or escapes_folder(file)
        ]
    return reasons


def read_files(folder: Path) -> list[Path]:
    """Returns the weights that transformers reads, and the files that are no weights, such as tokenizers."""
    weights = next((found for pattern in WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith("."))
    return [*weights, *(path for path in files if path.suffix not in WEIGHTS_OF_ANY)]


def _unsafe_entries(value: Any, place: str = "") -> Iterator[str]:
    """Yields a reason for each unsafe key in the content of a JSON file, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from _unsafe_entries(item, place)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        full = f"{place}{key}"[:MAX_SHOWN]
        if inner is None:
            continue
        if key in UNSAFE_KEYS:
            yield f"the key {full} {UNSAFE_KEYS[key]}"
        elif "backbone" in key:
            yield f"the key {full} loads another model"
        elif place and key == "model_type" and inner not in PARTS_OF_FLAT_TYPES:
            yield f"{full}={_shown(inner)} is a model in the model"
        yield from _unsafe_entries(inner, f"{full}.")


def _is_tokenizer(name: Any) -> bool:
    return name is None or (isinstance(name, str) and TOKENIZER_CLASS.fullmatch(name) is not None)


def _shown(value: Any) -> str:
    return repr(value)[:MAX_SHOWN]


class HuggingFaceFolder(NemoArchive):
    """The folder of a Marian, M2M-100, NLLB or mBART model.

    `config` has NeMo's keys. The tokenizers are SentencePiece files with all special tokens that NeMo needs.

    Args:
        path: the folder, as `save_pretrained` writes it.

    Raises:
        ValueError: if the folder lacks a file, holds another kind of model, or is not safe to open.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        values = self._values()
        if (family := values.get("model_type")) not in tuple(FAMILIES):  # may be a list, which has no hash
            known = ", ".join(FAMILIES)
            raise ValueError(
                f"'{self.path}' holds a model of the type '{family}'; those that teach word by word are {known}; "
                f"{BY_SEQUENCE}"
            )
        if reasons := unsafe_reasons(self.path):
            raise ValueError(" ".join(reasons))
        files, self._ends = FAMILIES[family]
        missing = [name for name in dict.fromkeys(files) if not (self.path / name).is_file()]
        if missing:
            raise ValueError(f"'{self.path}' has no {' and no '.join(missing)}, whose pieces a student needs")
        if not any(file for pattern in WEIGHTS for file in self.path.glob(pattern)):
            raise ValueError(f"'{self.path}' has no weights ({' or '.join(WEIGHTS)})")
        self._files = dict(zip(SIDES, files))
        self.config = self._described()

    def _values(self) -> dict[str, Any]:
        try:
            values = read_json(self.path / "config.json")
        except DataError as error:
            raise ValueError(str(error)) from error
        if values is None:
            raise ValueError(f"'{self.path}' is a folder without config.json, so not one of a Hugging Face model")
        return values

    def _described(self) -> DictConfig:
        from transformers import AutoConfig

        try:  # knows the defaults, which are not in the file
            values = AutoConfig.from_pretrained(self.path, **LOCAL_ONLY)
        except Exception as error:  # transformers raises many types of errors for wrong values
            raise ValueError(f"'{self.path}' has a config.json that cannot be read: {error}") from error
        described: dict[str, Any] = {
            "target": HUGGING_FACE + (values.architectures or ["AutoModelForSeq2SeqLM"])[0],
            "src_language": "ignore",  # their text is raw
            "tgt_language": "ignore",
            "shared_embeddings": len(set(self._files.values())) == 1,
        }
        for side in SIDES:
            described[side] = {
                "hidden_size": values.d_model,
                "inner_size": getattr(values, f"{side}_ffn_dim"),
                "num_layers": getattr(values, f"{side}_layers"),
                "num_attention_heads": getattr(values, f"{side}_attention_heads"),
                "max_sequence_length": values.max_position_embeddings,
                "learn_positional_encodings": self._ends,  # NeMo's word for: it reads no more
            }
            artifact = ARTIFACT_PREFIX + self._files[side]
            described[f"{side}_tokenizer"] = {"library": "sentencepiece", "tokenizer_model": artifact}
        return OmegaConf.create(described)

    def _read(self, name: str) -> bytes:
        if name == CONFIG_NAME:
            return yaml.safe_dump(OmegaConf.to_container(self.config)).encode()
        if name not in self._files.values():
            raise KeyError(name)
        return with_special_tokens(self.path / name)

    def copy_without_weights(self, stream: BinaryIO) -> None:
        """Writes a `.nemo` with the config and the tokenizers."""
        with tarfile.open(fileobj=stream, mode="w") as copy:
            for name in (CONFIG_NAME, *dict.fromkeys(self._files.values())):
                content = self._read(name)
                member = tarfile.TarInfo(name)
                member.size = len(content)
                copy.addfile(member, io.BytesIO(content))
