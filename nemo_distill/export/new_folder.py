"""Creates a folder atomically."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_distill.storage.files import writing


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yields an empty folder next to `output`. At the end, it is renamed to `output` and replaces the old folder.

    After an exception, `output` is unchanged and nothing else remains. After a kill, `<output>.unfinished` may remain,
    which the next call removes. If the kill came between the two renames, the old folder remains as
    `<output>.replaced`, which the next call restores.
    """
    unfinished, replaced = (output.with_name(f"{output.name}.{state}") for state in ("unfinished", "replaced"))
    with writing(output):
        shutil.rmtree(unfinished, ignore_errors=True)
        if replaced.exists() and not output.exists():
            replaced.rename(output)
        shutil.rmtree(replaced, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            if output.exists():
                output.rename(replaced)
            unfinished.rename(output)
            shutil.rmtree(replaced, ignore_errors=True)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
