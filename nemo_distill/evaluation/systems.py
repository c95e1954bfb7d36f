"""The systems of an evaluation: models with the engines that run them, and systems that are only translations."""

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nemo_distill.console import console
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import load_engine, written_language
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.evaluation_record import Role, TrainingRecord
from nemo_distill.evaluation.parameters import ParameterCount, archive_parameters, count_parameters, folder_parameters
from nemo_distill.export.record import ExportRecord
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.hugging_face_folder import read_files
from nemo_distill.storage.ledger import fingerprint
from nemo_distill.storage.run_record import read_run_of
from nemo_distill.text.lines import TextFiles, clean_text

NAME = re.compile(r"[\w.+-]+")  # used in file names
SEED_SUFFIX = re.compile(r"(.+)_seed(\d+)")
OF_NEMO = ("nemo_distill", "nemo")  # the engines that load a `.nemo`
EXPORTED = (*OF_NEMO, "hugging_face")  # the engines of models of which exports are made
HTML_ENTITY = re.compile("&(?:#[0-9]+|#x[0-9a-f]+|quot|apos|amp|lt|gt|nbsp);", re.IGNORECASE)


@dataclass(frozen=True)
class System:
    """A model with an engine.

    Args:
        name: name of the system in the results. Systems named `x_seed0`, `x_seed1`, ... form the group `x`.
        model: a `.nemo`; for CTranslate2 an exported folder, for Hugging Face a model folder.
        engine: one of `decoding.engines.ENGINES`.
        dtype: of the weights; None for float32, or for what was exported.
        source_language: of multilingual models only.
        target_language: likewise.
        role: what the findings take it for; None for neither.
        beam_size: its own beam size; None for that of the evaluation.
        preparation_seconds: wall time of the labels and caches that its training needed; None if unknown.
        same_model_as: the name of another system that runs the same model: as an export, in another engine, or with
            another beam size. None for the first of them.
        made_from: the system that an evaluation makes this export from; None for a model that is already there.
    """

    name: str
    model: Path
    engine: str
    dtype: str | None = None
    source_language: str | None = None
    target_language: str | None = None
    role: Role | None = None
    beam_size: int | None = None
    preparation_seconds: float | None = None
    same_model_as: str | None = None
    made_from: "System | None" = None

    @property
    def group(self) -> str:
        """The name without the seed."""
        match = SEED_SUFFIX.fullmatch(self.name)
        return match[1] if match else self.name

    @property
    def seed(self) -> int | None:
        """The seed in the name, or None."""
        match = SEED_SUFFIX.fullmatch(self.name)
        return int(match[2]) if match else None

    @property
    def languages(self) -> tuple[str | None, str | None]:
        """The source and the target language."""
        return self.source_language, self.target_language

    @property
    def precision(self) -> str | None:
        """The type of the weights."""
        if self.dtype is None and self.engine == "ctranslate2":
            return ExportRecord.read(self.model).quantization
        return self.dtype or "float32"

    @property
    def file(self) -> dict[str, str | None]:
        """Name and SHA-256 of the model."""
        return {**fingerprint(self.model)}

    def searched(self, search: SearchSettings) -> SearchSettings:
        """Returns the evaluation's search settings, with the beam size of this system."""
        return search if self.beam_size is None else replace(search, beam_size=self.beam_size)

    def load(self, device: str) -> Engine:
        """Loads the model on a device."""
        return load_engine(self.engine, [self.model], device, self.dtype, None, *self.languages)

    def parameters(self) -> ParameterCount | None:
        """Returns the number of parameters without loading the model; None if its config is not sufficient."""
        if self.engine == "ctranslate2":
            record = ExportRecord.read(self.model)
            if record.is_of_hugging_face:
                return folder_parameters(self.model / record.target.tokenizer)
            return count_parameters(record.architecture, record.source.pieces, record.target.pieces)
        if self.engine == "hugging_face":
            return folder_parameters(self.model)
        return archive_parameters(NemoArchive(self.model))

    def written_language(self) -> str | None:
        """Returns the target language; None if the model does not say."""
        return written_language(self.model, self.target_language)

    def bytes(self) -> int | None:
        """Returns the size on disk of the file, or of the files in the folder that its engine reads."""
        if self.engine == "hugging_face":
            files: Iterable[Path] = read_files(self.model)
        else:
            files = [self.model] if self.model.is_file() else self.model.rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file())

    def sha256(self) -> str | None:
        """Returns the SHA-256 of the model that is run, or that an export was made from; None if there is no model."""
        if self.engine == "ctranslate2":
            return ExportRecord.read(self.model).sha256
        return fingerprint(self.model)["sha256"] if self.engine in EXPORTED else None

    def training(self) -> TrainingRecord | None:
        """Returns what the training took; None if nothing is known.

        It is in the `run.json` in the folder of the `.nemo` or in the folder above, if that names this very file.
        """
        run: Mapping[str, Any] | None = read_run_of(self.model)
        if run is None and self.preparation_seconds is None:
            return None
        run = run or {}
        return {
            "steps": run.get("steps"),
            "target_tokens": run.get("target_tokens"),
            "tokens_in_batch": run.get("tokens_in_batch"),
            "seconds": run.get("seconds"),
            "preparation_seconds": self.preparation_seconds,
            "device": run.get("made_with", {}).get("device"),
            "git_revision": run.get("made_with", {}).get("git_revision"),
        }

    def label_smoothing(self) -> float | None:
        """The label smoothing that the model was trained with; None where it does not say."""
        if self.engine not in OF_NEMO:
            return None
        return float(NemoArchive(self.model).config.get("label_smoothing") or 0.0)

    def selected_by(self) -> list[str]:
        """The metrics that selected the labels that the model was trained on, as far as its training recorded them."""
        if self.engine == "ctranslate2":
            return ExportRecord.read(self.model).labels_selected_by
        return list(NemoArchive(self.model).config.get("labels_selected_by", [])) if self.engine in OF_NEMO else []


@dataclass(frozen=True)
class TextSystem(System):
    """A system of which only translations are there. It has no size and no speed.

    Args:
        files: the translations of each test set, by the name of the set; one sentence per line.
        unescape_html: turn HTML entities such as `&#39;` into characters.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    unescape_html: bool = False

    @property
    def precision(self) -> None:
        """None: not known."""
        return None

    @property
    def file(self) -> dict[str, str | None]:
        """The names of the files, and their SHA-256."""
        found = [fingerprint(path) for path in self.files.values()]
        return {key: ", ".join(one[key] for one in found) for key in ("name", "sha256")}

    def lines(self, test_set: str) -> list[str]:
        """Returns the translations of a test set, cleaned so that each is one line."""
        texts = [line.decode("utf-8", "replace") for line in TextFiles([self.files[test_set]])]
        if self.unescape_html:
            texts = [html.unescape(text) for text in texts]
        elif escaped := [text for text in texts if HTML_ENTITY.search(text)]:
            console.warning(
                f"models.{self.name}: {len(escaped):,} of {len(texts):,} lines of '{self.files[test_set]}' contain "
                f"HTML entities such as {HTML_ENTITY.findall(escaped[0])[0]}; unescape_html=true decodes them."
            )
        return [clean_text(text) for text in texts]

    def parameters(self) -> None:
        """None: not known."""
        return None

    def bytes(self) -> None:
        """None: not known."""
        return None

    def written_language(self) -> None:
        """None: not known."""
        return None
