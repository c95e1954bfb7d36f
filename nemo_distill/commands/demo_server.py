"""Serves a web page with the models in a config."""

import socket
from importlib.util import find_spec
from typing import Annotated

from omegaconf import DictConfig
from pydantic import Field
from rich.progress import track

from nemo_distill.commands.demo_page import build_page
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.config.section import Allowed, read_config, rule, section
from nemo_distill.console import console
from nemo_distill.decoding.engine import Engine
from nemo_distill.decoding.engines import (
    Device,
    EngineName,
    ModelFiles,
    ModelSection,
    engine_problems,
    load_engine,
    model_paths,
    search_problems,
)
from nemo_distill.decoding.settings import SearchSettings


@section
class ServerConfig:
    """The configuration of `serve`."""

    models: Annotated[
        dict[str, ModelFiles | ModelSection],
        Field(min_length=1),
        Allowed("a section with at least one model, such as '+models.student=student.nemo' adds"),
    ] = Field(default_factory=dict, validate_default=True)
    """The name on the page, and a `.nemo` or several, or a section with the languages of a multilingual model, such as
    `{model: many.nemo, target_language: fr}`; times are compared with the first one's."""
    engine: EngineName = "nemo_distill"
    """What searches."""
    device: Device = "cpu"
    """`cpu`, `cuda`, or one GPU such as `cuda:1`."""
    port: int = Field(default=8000, ge=1, le=65535)
    """The page is at `http://127.0.0.1:` and this port."""
    search: SearchSettings = Field(default_factory=SearchSettings)
    """How to search."""

    @rule
    def port_problems(self) -> list[str]:
        """Returns a sentence if another program has the port."""
        return [] if _is_free(self.port) else [f"port={self.port}: another program has it; take another."]

    @rule
    def package_problems(self) -> list[str]:
        """Returns a sentence if what the page needs is not installed."""
        there = find_spec("flask") and find_spec("waitress")
        return [] if there else ["The page needs flask and waitress: pip install 'nemo_distill[demo]'."]

    @rule
    def search_problems(self) -> list[str]:
        """Returns a sentence for each setting that the engine cannot follow."""
        return search_problems(self.engine, self.search)

    @rule
    def model_problems(self) -> list[str]:
        """Returns a sentence for each reason why the engine could not load a model."""
        problems = []
        for name, model in self.sections().items():
            languages = (model.source_language, model.target_language)
            found = engine_problems(self.engine, model_paths(model.model), model.dtype, *languages)
            problems += [f"models.{name}: {problem}" for problem in found]
        return problems

    def sections(self) -> dict[str, ModelSection]:
        """Returns a section for each model, also for those that only name files."""
        return {
            name: model if isinstance(model, ModelSection) else ModelSection(model=model)
            for name, model in self.models.items()
        }


def check_server(cfg: DictConfig) -> None:
    """Checks everything that can be known before a model is loaded.

    Raises:
        ConfigurationError: with every problem found.
    """
    read_config(ServerConfig, cfg)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as waitress does
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def run_server(config: ServerConfig) -> None:
    """Loads the models and serves the page to this machine alone, until it is interrupted."""
    import waitress

    bar = track(config.sections().items(), "loading", transient=True)
    engines = {name: _load(config, model) for name, model in bar}
    console.info(f"http://127.0.0.1:{config.port}  (Ctrl-C ends it)")
    waitress.serve(build_page(engines, config.search), host="127.0.0.1", port=config.port, threads=2)


def _load(config: ServerConfig, model: ModelSection) -> Engine:
    languages = (model.source_language, model.target_language)
    paths = model_paths(model.model)
    return load_engine(config.engine, paths, config.device, model.dtype, model.weights, *languages)


def main(cfg: DictConfig) -> None:
    check(cfg, check_server)
    with plain_errors():
        run_server(read_config(ServerConfig, cfg))
