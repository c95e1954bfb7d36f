"""Describes the folder of a Hugging Face translation model in NeMo's keys, as if it were a `.nemo`.

Whoever needs a teacher's languages, sizes or tokenizers reads them from a folder in the same way as from a `.nemo`.
"""

import io
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from omegaconf import DictConfig, OmegaConf

from nemo_distill.config.errors import DataError
from nemo_distill.nemo_files.archive import ARTIFACT_PREFIX, CONFIG_NAME, NemoArchive
from nemo_distill.nemo_files.model_kinds import HUGGING_FACE, SIDES
from nemo_distill.nemo_files.tokenizer_files import with_special_tokens
from nemo_distill.storage.files import user_path
from nemo_distill.storage.records import read_json

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
BY_SEQUENCE = "its translations still teach any student: sequence-level distillation, with engine=hugging_face"


class HuggingFaceFolder(NemoArchive):
    """The folder of a Marian, M2M-100, NLLB or mBART model.

    `config` has NeMo's keys. The tokenizers are SentencePiece files with all special tokens that NeMo needs.

    Args:
        path: the folder, as `save_pretrained` writes it.

    Raises:
        ValueError: if the folder lacks a file, or holds another kind of model.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        values = self._values()
        if (family := values.get("model_type")) not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise ValueError(
                f"'{self.path}' holds a model of the type '{family}'; those that teach word by word are {known}; "
                f"{BY_SEQUENCE}"
            )
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
