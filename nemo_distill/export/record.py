"""The record of an export, `nemo_distill.json`: how it was made, and how to use it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge
from typing_extensions import TypedDict

from nemo_distill.config.errors import ConfigurationError, DataError
from nemo_distill.metrics.scores import Score
from nemo_distill.storage.files import write_json
from nemo_distill.storage.folder_safety import check_links, path_inside
from nemo_distill.storage.records import CLOSED, parse_json, read_json, read_small

RECORD_NAME = "nemo_distill.json"


class SpecialIds(TypedDict):
    """The special ids of a tokenizer."""

    pad: int
    unk: int
    bos: int
    eos: int


@dataclass(frozen=True)
class TextSide:
    """How to convert between text and ids on one side.

    Args:
        tokenizer: file name of the tokenizer in the exported folder; of a Hugging Face model, the name of a folder.
        library: `sentencepiece`, `yttm` or `hugging_face`.
        language: NeMo's language code, which determines pre- and post-processing; `ignore` and None: no processing.
        pieces: number of pieces in the tokenizer. Greater ids have no text.
        special_ids: the ids of pad, unk, bos and eos.
        positions: maximum number of ids. Source ids begin with bos and end with eos.
    """

    __pydantic_config__ = CLOSED
    tokenizer: str
    library: Literal["sentencepiece", "yttm", "hugging_face"]
    language: str | None
    pieces: Annotated[int, Ge(1)]
    special_ids: SpecialIds
    positions: Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Quality:
    """BLEU of an export and of the same model in float32, on a development set.

    Args:
        source: name and SHA-256 of the source file.
        reference: name and SHA-256 of the reference file.
        beam_size: hypotheses in the beam; the length penalty is 0.
        scores: BLEU with its signature by what translated: `float32` is the model before the export, `export` the
            export without a shortlist, `shortlist, batches of N` the export with its shortlist, N sentences at a time.
        p_values: the probability of a difference at least this large if both are equal: of the export from float32,
            and of each shortlist from the export.
        nats: negative log-likelihood of the reference in nats a token, of `float32` and `export`; only of CTranslate2.
    """

    __pydantic_config__ = CLOSED
    source: dict[str, str]
    reference: dict[str, str]
    beam_size: int
    scores: dict[str, Score]
    p_values: dict[str, float] = field(default_factory=dict)
    nats: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Shortlist:
    """How the shortlist of an export was made; see `shortlist.py`.

    Args:
        source: name and SHA-256 of each file of the source side that was aligned.
        target: the same of the target side.
        pairs: the number of aligned sentence pairs.
        candidates: most target pieces for each source piece.
        common: target pieces that are allowed in every translation.
        mean: target pieces that are allowed for a source piece, on average, without the common ones.
    """

    __pydantic_config__ = CLOSED
    source: list[dict[str, str]]
    target: list[dict[str, str]]
    pairs: int
    candidates: int
    common: int
    mean: float


@dataclass(frozen=True)
class ExportRecord:
    """The record of an export.

    Args:
        model: name of the `.nemo`, or of the folder of a Hugging Face model.
        format: `ctranslate2`, `hugging_face`, `onnx` or `browser`.
        quantization: the type of the weights.
        quality: what the export costs; None if that was not measured.
        labels_selected_by: the metrics that selected the labels that the model was trained on.
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
    quality: Quality | None = None
    shortlist: Shortlist | None = None
    labels_selected_by: list[str] = field(default_factory=list)

    @property
    def is_of_hugging_face(self) -> bool:
        """True if the model was converted from a Hugging Face folder, whose tokenizers read its text."""
        return self.target.library == "hugging_face"

    def write(self, folder: Path) -> None:
        """Writes the record into an export's folder."""
        write_json(folder / RECORD_NAME, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "ExportRecord":
        """Reads the record of an exported folder.

        Raises:
            ValueError: if the folder is not an export, or refers to files outside of it.
        """
        path = folder / RECORD_NAME
        if path.is_file():
            check_links(folder)
        if (record := read_json(path, cls)) is None:
            raise ValueError(f"'{folder}' is not an export: it has no {RECORD_NAME}")
        for side in (record.source, record.target):
            path_inside(folder, side.tokenizer)
        return record


def read_tokens(folder: Path, side: str) -> list[str]:
    """Returns CTranslate2's names of all ids of a side, `source` or `target`, of an export.

    Raises:
        ConfigurationError: if the export has no such vocabulary.
    """
    path = folder / "shared_vocabulary.json"
    if not path.is_file():
        path = folder / f"{side}_vocabulary.json"
    content = read_small(path)
    if content is None:
        raise ConfigurationError([f"'{folder}' is not an export: it has no {side} vocabulary."])
    try:
        return parse_json(content, list[str], f"'{path}'")
    except DataError as error:
        raise ConfigurationError([f"{error}."]) from error
