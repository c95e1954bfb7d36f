"""How an export was made, and what its user must know to feed it: `nemo_distill.json`, beside the model."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge
from typing_extensions import TypedDict

from nemo_distill.storage.files import write_json
from nemo_distill.storage.folder_safety import check_links, inside
from nemo_distill.storage.records import CLOSED, read_json

RECORD_NAME = "nemo_distill.json"


class SpecialIds(TypedDict):
    """Of a tokenizer."""

    pad: int
    unk: int
    bos: int
    eos: int


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

    __pydantic_config__ = CLOSED
    tokenizer: str
    library: Literal["sentencepiece", "yttm"]
    language: str | None
    pieces: Annotated[int, Ge(1)]
    special_ids: SpecialIds
    positions: Annotated[int, Ge(1)]


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

    __pydantic_config__ = CLOSED
    model: str
    sha256: str
    format: str
    quantization: str
    architecture: dict[str, Any]
    source: TextSide
    target: TextSide
    versions: dict[str, str]

    def write(self, folder: Path) -> None:
        """Writes the record into an export's folder."""
        write_json(folder / RECORD_NAME, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "ExportRecord":
        """Reads the record of an export's folder.

        Raises:
            ValueError: if the folder holds no export, or names or links to files outside of it.
        """
        path = folder / RECORD_NAME
        if not path.is_file():
            raise ValueError(f"'{folder}' is no export: it holds no {RECORD_NAME}")
        check_links(folder)
        record = read_json(path, cls)
        for side in (record.source, record.target):
            inside(folder, side.tokenizer)
        return record
