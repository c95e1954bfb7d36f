"""Translates lines of text and writes the translations in order."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Literal, TextIO

from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console
from rich.progress import track

from nemo_distill.commands.user_errors import checked, plain_errors
from nemo_distill.config.section import read_config, rule, section
from nemo_distill.console import set_up_console
from nemo_distill.decoding.engine import Engine, Translation, translate_stream
from nemo_distill.decoding.engines import (
    Device,
    EngineName,
    SearchingSection,
    engine_problems,
    load_engine,
)
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.fastest_engine import EngineRequest, choose_engine, probed_lines
from nemo_distill.storage.files import UserPath, file_problems, whole_file
from nemo_distill.text.files import PossiblyEmptyFiles, input_files
from nemo_distill.text.lines import INVALID_UTF8, TextFiles, clean_text, decoded, is_utf8
from nemo_distill.trainer.precision import AUTO


@section
class TranslationConfig(SearchingSection):
    """The configuration of `translate`."""

    engine: Literal[EngineName, "auto"] | None = None
    """What searches; null: `nemo_distill` for a `.nemo`, `ctranslate2` for an export's folder, `hugging_face` for the
    folder of a sequence-to-sequence model. `nemo` is NeMo's own search: slower, one hypothesis, a sentence at a time.
    `auto`: the fastest of `ctranslate2` and the default in their types of weights that is faithful on the first lines
    of `input`."""
    input: PossiblyEmptyFiles | None = None
    """A file, plain or packed, or several; null: standard input."""
    output: UserPath | None = None
    """A file; null: standard output."""
    overwrite: bool = False
    """Replace an output that exists."""
    scores: bool = False
    """Write each translation's score and a tab before it."""
    chunk: int = Field(default=2048, ge=1)
    """Lines that are read, sorted by length and translated at a time."""
    device: Device = "cpu"
    """`cpu`, `cuda`, or one GPU such as `cuda:1`."""

    @rule
    def engine_problems(self) -> list[str]:
        """Returns a sentence for each reason why the engine could not load the model."""
        return engine_problems(self.engine_name, self.paths, self.dtype, *self.languages)

    @rule
    def probe_problems(self) -> list[str]:
        """Returns a sentence if there are no lines to choose an engine by."""
        if self.engine_name != AUTO or self.input is not None:
            return []
        return ["engine=auto tries engines on lines of input; give a file, or name an engine for standard input."]

    @rule
    def output_problems(self) -> list[str]:
        """Returns a sentence if the output cannot be written."""
        if self.output is None:
            return []
        return [f"output names '{self.output}', {problem}." for problem in file_problems(self.output, self.overwrite)]

    @rule
    def overwriting_problems(self) -> list[str]:
        """Returns a sentence if the output would replace what is read."""
        read = [*input_files(self.input), *map(Path, self.paths)]
        if self.output is None or self.output.resolve() not in {path.resolve() for path in read}:
            return []
        return [f"output names '{self.output}', which is read; name another file."]


def run_translation(config: TranslationConfig) -> None:
    """Translates `input` into `output`, or standard input into standard output."""
    name, dtype = config.engine_name, config.dtype
    if name == AUTO:
        probed = probed_lines(TextFiles(input_files(config.input)), config.device)
        chosen = choose_engine(EngineRequest(config, config.searched, config.device), probed)
        name, dtype = chosen["engine"], chosen["dtype"]
    engine = load_engine(name, config.paths, config.device, dtype, config.weights, *config.languages)
    search, cut, blank, oddities = config.searched, 0, 0, Counter[str]()
    with _whole_or_nothing(config.output) as output:
        for number, translation in enumerate(_translations(engine, config, oddities)):
            output.writelines(f"{line}\n" for line in format_translation(number, translation, search, config.scores))
            output.flush()
            cut, blank = cut + translation.source_cut, blank + translation.is_of_nothing
    said = {
        "Lines that were longer than the model reads, and not translated to their ends": cut,
        "Lines without text, whose translations are empty": blank,
        "Lines that were not UTF-8, whose invalid bytes were read as U+FFFD": oddities[INVALID_UTF8],
    }
    for what, count in said.items():
        if count:
            Console(stderr=True).print(f"{what}: {count:,}")


def format_translation(number: int, translation: Translation, settings: SearchSettings, scores: bool) -> list[str]:
    """Returns the output lines for an input line.

    The output is the translation, with `scores` preceded by its score and a tab. With several hypotheses, it is one
    line per hypothesis in Moses format, `number ||| hypothesis ||| score`.
    """
    if settings.n_best > 1:
        return [f"{number} ||| {clean_text(found.text)} ||| {found.score:.4f}" for found in translation.hypotheses]
    best = translation.hypotheses[0]
    text = clean_text(best.text)
    return [f"{best.score:.4f}\t{text}" if scores else text]


def _translations(engine: Engine, config: TranslationConfig, oddities: Counter[str]) -> Iterable[Translation]:
    """Translates files, plain or packed, or standard input.

    Invalid UTF-8 becomes U+FFFD and control characters are removed. No line is lost.

    Args:
        oddities: counts the lines that are not UTF-8.
    """

    def read(raw: bytes) -> str:
        oddities[INVALID_UTF8] += not is_utf8(raw)
        return decoded(raw)

    if config.input is None:
        lines = (read(line.removesuffix(b"\n")) for line in sys.stdin.buffer)
        chunk = 1 if sys.stdin.isatty() else config.chunk  # somebody who types wants to see each answer
        return translate_stream(engine, lines, config.searched, chunk)
    text = TextFiles(input_files(config.input))
    total = sum(1 for _ in text)
    stream = translate_stream(engine, map(read, text), config.searched, config.chunk)
    return track(stream, "translating", total, console=Console(stderr=True), transient=True)


@contextmanager
def _whole_or_nothing(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as the input, whatever the locale says
        yield sys.stdout
        return
    with whole_file(path) as file:
        stream = TextIOWrapper(file, encoding="utf-8", newline="\n")
        try:
            yield stream
        finally:
            stream.detach()  # flushes it without closing the file, which `whole_file` does


def main(cfg: DictConfig) -> None:
    set_up_console(sys.stderr)  # standard output is only for translations
    config = checked(cfg, partial(read_config, TranslationConfig))
    with plain_errors():
        run_translation(config)
