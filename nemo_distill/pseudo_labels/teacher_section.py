"""What translates the text that is to be labelled: an engine with its models, files of translations, or a server."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field

from nemo_distill.config.errors import DataError
from nemo_distill.config.known_keys import Accelerator, Devices
from nemo_distill.config.section import changed, rule, section
from nemo_distill.decoding.asked_languages import not_asked_for
from nemo_distill.decoding.engines import (
    EngineName,
    SearchingSection,
    engine_problems,
    model_languages,
    written_language,
)
from nemo_distill.pseudo_labels.api_settings import ApiSettings
from nemo_distill.pseudo_labels.generate import LabelNoise
from nemo_distill.pseudo_labels.text_teacher import FileSettings, Survey, TextTeacher, survey
from nemo_distill.text.files import InputFiles, input_files, unreadable_files
from nemo_distill.text.lines import LinePolicy, TextFiles

FILE = "file"  # in place of an engine: translations that are there
API = "api"  # in place of an engine: a server
TEXT_ONLY = (FILE, API)


@section
class TeacherSection(SearchingSection):
    """What translates, and what it translates."""

    engine: Literal[EngineName, "auto", "file", "api"] | None = None
    """What searches; null: `nemo_distill` for a `.nemo`, `ctranslate2` for an export's folder, `hugging_face` for the
    folder of a sequence-to-sequence model. `nemo` is NeMo's own search: slower, one hypothesis, a sentence at a time.
    `auto`: the fastest of `ctranslate2` and the default in their types of weights that is faithful, as a probe finds;
    labels that were begun keep it. `file` takes translations that are there, `api` the name of a model that a server
    has."""
    source: InputFiles = Field(kw_only=True)
    """A file or a list of files, plain or packed. `part.*` stands for all such files in the order of their numbers."""
    file: FileSettings = Field(default_factory=FileSettings)
    """How `engine=file` reads the translations that `model` names."""
    api: ApiSettings = Field(default_factory=ApiSettings)
    """How `engine=api` asks its server."""
    reading: LinePolicy = Field(default_factory=LinePolicy)
    """How to treat invalid lines. Dropped lines are counted, and never shift the lines next to them."""
    noise: LabelNoise = Field(default_factory=LabelNoise)
    """Noise of the source before the teacher reads it."""
    accelerator: Accelerator = "auto"
    """Lightning's accelerator, such as `cpu` or `gpu`."""
    devices: Devices = 1
    """Processes on each machine."""
    num_nodes: int = Field(default=1, ge=1)
    """Number of machines."""

    @property
    def sources(self) -> list[Path]:
        """The files that are translated."""
        return input_files(self.source)

    @property
    def teachers(self) -> list[str]:
        """The models, or the files of translations that are there; none of a server."""
        if self.engine_name == API:
            return []
        return list(map(str, input_files(self.model))) if self.engine_name == FILE else self.paths

    @property
    def hypotheses_per_line(self) -> float:
        """The most hypotheses that the teacher gives for a line; inf if its files cannot be read."""
        if self.engine_name == FILE:
            return math.inf if (found := self.survey()) is None else found.most
        return self.api.samples if self.engine_name == API else self.search.n_best

    @property
    def hypotheses_in_words(self) -> str:
        """What says how many hypotheses there are, where there is only one."""
        said = {FILE: "model has one translation of each line", API: f"api.samples={self.api.samples}"}
        return said.get(self.engine_name, f"search.n_best={self.search.n_best}")

    @property
    def unscored(self) -> str | None:
        """Why translations have no scores, in words that follow a comma; None if they have."""
        if self.engine_name == API:
            return "and a server gives none"
        found = self.survey() if self.engine_name == FILE else None
        return f"but model has none of source line {found.unscored}" if found and found.unscored else None

    def text_files(self) -> list[Path]:
        """Returns the files of a teacher that is only text in files."""
        return input_files(self.model) if self.engine_name == FILE else []

    def survey(self) -> Survey | None:
        """Returns what is in the files of a teacher that is only text; None if they cannot be read."""
        try:
            return None if unreadable_files(self.model, is_text=False) else self._read_files()
        except DataError:
            return None

    def _read_files(self) -> Survey:
        return _survey(tuple(self.text_files()), self.reading, self.file)

    def written_language(self) -> str | None:
        """Returns the language that the model writes, if it says."""
        if self.engine_name in TEXT_ONLY:
            return None
        return written_language(self.teachers[0], self.target_language)

    def model_languages(self) -> Sequence[str | None]:
        """Returns the languages whose Moses tokenization the model's text has."""
        if self.engine_name in TEXT_ONLY:
            return None, None
        return model_languages(self.teachers[0], *self.languages)

    @rule
    def engine_problems(self) -> list[str]:
        """Returns a sentence for each reason why the engine could not load the model, or ask the server."""
        if self.engine_name == FILE:
            problems = [f"model {problem}." for problem in unreadable_files(self.model, is_text=False)]
            return problems + not_asked_for(self.languages, "engine=file")
        if self.engine_name == API:
            return self._api_problems()
        return engine_problems(self.engine_name, self.teachers, self.dtype, *self.languages)

    def _api_problems(self) -> list[str]:
        problems = []
        if self.api.url is None:
            problems.append("api.url has no value; give the server's base URL, such as http://127.0.0.1:8000/v1.")
        if not isinstance(self.model, str):
            problems.append(f"model={self.model}: must be the name of one model of the server.")
        if self.devices != 1 or self.num_nodes != 1:
            problems.append("devices and num_nodes must be 1 with engine=api; set api.concurrency.")
        return problems + [
            f"{key} has no value, but api.prompt contains {{{key}}}; give it, as in {key}=German."
            for key in ("source_language", "target_language")
            if getattr(self, key) is None and f"{{{key}}}" in self.api.prompt
        ]

    @rule
    def unused_section_problems(self) -> list[str]:
        """Returns a sentence for each section that has no effect with this engine."""
        unused = [key for key in (FILE, API) if key != self.engine]
        unused += ["search", "dtype", "weights"] if self.engine_name in TEXT_ONLY else []
        unused += ["noise"] if self.engine_name == FILE else []
        return [f"{key} has no effect with engine={self.engine_name}; leave it out." for key in changed(self, *unused)]

    @rule
    def file_problems(self) -> list[str]:
        """Returns a sentence if the translations in files cannot be read, or are not those of the sources' lines."""
        if self.engine_name != FILE or unreadable_files(self.model, is_text=False):
            return []
        try:
            found = self._read_files()
        except DataError as error:
            return [f"model: {error}{'' if str(error).endswith('.') else '.'}"]
        lines = sum(1 for _ in TextFiles(self.sources))
        if self.file.has_numbers and found.lines > lines:
            return [
                f"model has a translation of line {found.lines}, and source has {lines} lines; see file.first_line."
            ]
        if not self.file.has_numbers and found.lines != lines:
            return [f"model has {found.lines} lines, and source has {lines}."]
        return []


@cache
def _survey(paths: Sequence[Path], policy: LinePolicy, settings: FileSettings) -> Survey:
    return survey(TextTeacher(paths, policy, settings))
