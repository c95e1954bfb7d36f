"""A folder that appears whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nemo_distill.storage.files import writing


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yields an empty folder beside `output`, which becomes `output` in the end, in the place of what was there.

    If anything is raised, `output` stays as it was and nothing else remains. After a kill there remains
    `<output>.unfinished`, which the next call removes, or, between the old folder and the new, `<output>.replaced`,
    which it puts back.
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
