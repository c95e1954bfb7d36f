"""Serves a web page with the models in a config."""

import socket
from importlib.util import find_spec

from omegaconf import DictConfig
from rich.progress import track

from nemo_distill.commands.demo_page import build_page
from nemo_distill.commands.training import check, plain_errors
from nemo_distill.commands.translate import model_paths, read_settings
from nemo_distill.config.checks import check_missing
from nemo_distill.config.errors import ConfigurationError
from nemo_distill.console import console
from nemo_distill.decoding.engines import device_problems, engine_problems, load_engine, search_problems


def check_server(cfg: DictConfig) -> None:
    """Checks everything that can be known before a model is loaded.

    Raises:
        ConfigurationError: with every problem found.
    """
    problems = check_missing(cfg)
    models = cfg.models if isinstance(cfg.models, DictConfig) else {}
    if not models:
        problems.append(f"models={cfg.models}: give at least one: '+models.student=student.nemo'.")
    problems += device_problems(cfg.device)
    if not isinstance(cfg.port, int) or not 0 < cfg.port < 65536:
        problems.append(f"port={cfg.port}: must be from 1 to 65535.")
    elif not _is_free(cfg.port):
        problems.append(f"port={cfg.port}: another program has it; take another.")
    if not find_spec("flask") or not find_spec("waitress"):
        problems.append("The page needs flask and waitress: pip install 'nemo_distill[demo]'.")
    try:
        problems += search_problems(cfg.engine, read_settings(cfg.search))
    except ConfigurationError as error:
        problems += error.problems
    for name, path in models.items():
        problems += [f"models.{name}: {problem}" for problem in engine_problems(cfg.engine, model_paths(path))]
    if problems:
        raise ConfigurationError(problems)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as waitress does
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def run_server(cfg: DictConfig) -> None:
    """Loads the models and serves the page, only to this machine, until it is interrupted."""
    import waitress

    bar = track(cfg.models.items(), "loading", transient=True)
    engines = {name: load_engine(cfg.engine, model_paths(path), cfg.device) for name, path in bar}
    console.info(f"http://127.0.0.1:{cfg.port}  (Ctrl-C ends it)")
    waitress.serve(build_page(engines, read_settings(cfg.search)), host="127.0.0.1", port=cfg.port, threads=2)


def main(cfg: DictConfig) -> None:
    check(cfg, check_server)
    with plain_errors():
        run_server(cfg)
