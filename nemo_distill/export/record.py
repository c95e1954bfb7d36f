"""How an export was made, and what its user must know to feed it: `nemo_distill.json`, beside the model."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RECORD_NAME = "nemo_distill.json"


@dataclass(frozen=True)
class TextSide:
    """How one side's text becomes ids, or its ids become text.

    Args:
        tokenizer: the file in the export's folder.
        library: `sentencepiece` or `yttm`.
        language: NeMo's, which chooses pre- and post-processing; `ignore` and None stand for none.
        pieces: the tokenizer's; ids from here on are nothing.
        special_ids: of pad, unk, bos and eos.
        positions: the most ids that the model has positions for; the source's begin with bos and end with eos.
    """

    tokenizer: str
    library: str
    language: str | None
    pieces: int
    special_ids: Mapping[str, int]
    positions: int


@dataclass(frozen=True)
class ExportRecord:
    """An export.

    Args:
        model: the name of the `.nemo`.
        sha256: of the `.nemo`.
        format: `ctranslate2` or `onnx`.
        quantization: of the weights.
        architecture: what the `.nemo`'s config says of encoder, decoder, head and shared embeddings.
        source: the encoder's side.
        target: the decoder's.
        versions: of the packages that made it.
    """

    model: str
    sha256: str
    format: str
    quantization: str
    architecture: Mapping[str, Any]
    source: TextSide
    target: TextSide
    versions: Mapping[str, str]

    def write(self, folder: Path) -> None:
        """Writes the record into an export's folder."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / RECORD_NAME).write_text(f"{text}\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "ExportRecord":
        """Reads the record of an export's folder.

        Raises:
            ValueError: if the folder holds no export.
        """
        path = folder / RECORD_NAME
        if not path.is_file():
            raise ValueError(f"'{folder}' is no export: it holds no {RECORD_NAME}")
        values = json.loads(path.read_text(encoding="utf-8"))
        sides = {side: TextSide(**values.pop(side)) for side in ("source", "target")}
        return cls(**values, **sides)
