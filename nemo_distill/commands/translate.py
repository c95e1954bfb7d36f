"""Translates lines of text and writes the translations in order."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track

from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_section
from nemo_distill.console import set_up_console
from nemo_distill.decoding.engine import Engine, Translation, translate_stream
from nemo_distill.decoding.engines import device_problems, engine_problems, load_engine, search_problems
from nemo_distill.decoding.ensemble import share_problems
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.storage.files import user_path, whole_file
from nemo_distill.text.files import as_list, named_files
from nemo_distill.text.lines import TextFiles, clean_text


def read_settings(section: DictConfig) -> SearchSettings:
    """Returns the search settings in a config section.

    Raises:
        ConfigurationError: with every problem found.
    """
    settings, problems = read_section(SearchSettings, OmegaConf.to_container(section, resolve=True), "search")
    if problems:
        raise ConfigurationError(problems)
    return settings


def model_paths(model: Any) -> list[str]:
    """Returns the paths in a config's `model`, a path or a list of paths."""
    return [str(user_path(path)) for path in as_list(model)]


def check_translation(cfg: DictConfig) -> None:
    """Checks as much as possible before a model is loaded.

    Raises:
        ConfigurationError: with every problem found.
    """
    if problems := check_missing(cfg):
        raise ConfigurationError(problems)
    try:
        problems += search_problems(cfg.engine, read_settings(cfg.search))
    except ConfigurationError as error:
        problems += error.problems
    problems += engine_problems(cfg.engine, model_paths(cfg.model), cfg.dtype)
    problems += share_problems(as_list(cfg.weights) or None, len(model_paths(cfg.model)))
    problems += device_problems(cfg.device)
    if not isinstance(cfg.chunk, int) or cfg.chunk < 1:
        problems.append(f"chunk={cfg.chunk}: must be a whole number of at least 1.")
    if cfg.input is not None:
        problems += [problem for problem in named_files("input", cfg.input)[1] if "is empty" not in problem]
    problems += _output_problems(cfg) if cfg.output is not None else []
    if problems:
        raise ConfigurationError(problems)


def _output_problems(cfg: DictConfig) -> list[str]:
    output = user_path(cfg.output)
    if not output.parent.is_dir():
        return [f"output names '{output}', but there is no folder '{output.parent}'."]
    if output.is_dir() or (output.exists() and not cfg.overwrite):
        return [f"output names '{output}', which exists; set overwrite=true, or name another."]
    return []


def run_translation(cfg: DictConfig) -> None:
    """Translates `cfg.input` to `cfg.output`, or standard input to standard output."""
    settings = read_settings(cfg.search)
    languages = (cfg.source_language, cfg.target_language)
    engine = load_engine(cfg.engine, model_paths(cfg.model), cfg.device, cfg.dtype, cfg.weights, *languages)
    cut = 0
    with _lines(cfg.input) as lines, _whole_or_nothing(cfg.output) as output:
        for number, translation in enumerate(_translations(engine, lines, settings, cfg)):
            output.writelines(f"{line}\n" for line in format_translation(number, translation, settings, cfg.scores))
            output.flush()
            cut += translation.source_cut
    if cut:
        Console(stderr=True).print(f"{cut} lines were longer than the model reads; their ends were not translated.")


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


def _translations(
    engine: Engine, lines: Iterable[str], settings: SearchSettings, cfg: DictConfig
) -> Iterable[Translation]:
    # In a terminal, show each translation at once. For files, large chunks are faster.
    chunk = 1 if cfg.input is None and sys.stdin.isatty() else cfg.chunk
    stream = translate_stream(engine, lines, settings, chunk)
    if cfg.input is None:
        return stream
    with _lines(cfg.input) as counted:
        total = sum(1 for _ in counted)
    return track(stream, "translating", total, console=Console(stderr=True), transient=True)


@contextmanager
def _lines(paths: Any) -> Iterator[Iterator[str]]:
    """Opens files, plain or gzip, or standard input.

    Invalid UTF-8 becomes U+FFFD and control characters are removed. No line is lost.
    """
    raw = (
        (line.removesuffix(b"\n") for line in sys.stdin.buffer)
        if paths is None
        else TextFiles(named_files("input", paths)[0])
    )
    yield (clean_text(line.decode("utf-8", errors="replace")) for line in raw)


@contextmanager
def _whole_or_nothing(path: str | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    with whole_file(user_path(path)) as file:
        stream = TextIOWrapper(file, encoding="utf-8", newline="\n")
        try:
            yield stream
        finally:
            stream.detach()  # flushes it without closing the file, which `whole_file` does


def main(cfg: DictConfig) -> None:
    set_up_console(sys.stderr)  # standard output is only for translations
    check(cfg, check_translation)
    with plain_errors():
        run_translation(cfg)
