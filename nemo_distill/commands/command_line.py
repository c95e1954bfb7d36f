"""Runs a job with Hydra's command line, but with exit code 2 for errors in the arguments."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import ConfigCompositionException, OverrideParseException, SearchPathException

CONF = Path(__file__).parents[1] / "conf"
MISTAKES = (ConfigCompositionException, OverrideParseException, SearchPathException)


def hydra_main(config_name: str, folder: Path = CONF) -> Callable[[Callable[..., Any]], Callable[[], None]]:
    """Decorates a job like `hydra.main`.

    For errors in the arguments, Hydra ends with exit code 1, the same as after a crash. This decorator changes it
    to 2. A crash of the job still gives 1.

    Args:
        config_name: the name of the config.
        folder: the folder of the config.
    """

    def decorated(task: Callable[..., Any]) -> Callable[[], None]:
        run = hydra.main(version_base=None, config_path=str(folder), config_name=config_name)(task)

        @functools.wraps(task)
        def main() -> None:
            try:
                run()
            except SystemExit as end:
                if end.code == 1 and isinstance(end.__context__, MISTAKES):
                    sys.exit(2)
                raise

        return main

    return decorated
