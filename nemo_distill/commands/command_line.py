"""A job's command line: Hydra's, but that a mistake in it ends with the exit code of all other mistakes, 2."""

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
    """Decorates a job as `hydra.main` does.

    Hydra prints what is wrong and ends with 1, as after a crash. Where its reason was that no config could be composed
    of the arguments, the end is 2; a crash of the job stays 1.

    Args:
        config_name: the config.
        folder: that it lies in.
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
