"""Prints the profile of failures of translations in files, such as those of published systems.

    python benchmarks/failures.py folder 'name={source: a.de, reference: a.en, systems: {tiny: tiny.en}}' \
        'settings={training_source: [train.de], training_target: [train.en]}'

The record with all sentences is FOLDER/failures.json. Files are plain or gzip. `html=true` undoes HTML's entities.
"""

import html
import json
import platform
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf

from nemo_distill.config.errors import ConfigurationError
from nemo_distill.config.section import read_section
from nemo_distill.console import markdown_table
from nemo_distill.evaluation.failure_report import NOTES, failure_findings, failure_table
from nemo_distill.failures.profile import TranslatedSet, profile
from nemo_distill.failures.settings import FailureSettings
from nemo_distill.storage.files import write_json
from nemo_distill.text.lines import TextFiles, clean_text


def main(folder: Path, arguments: list[str]) -> None:
    """Profiles the test sets that the arguments name, and prints a table for each."""
    given = OmegaConf.to_container(OmegaConf.from_dotlist(arguments))
    settings, problems = read_section(FailureSettings, given.pop("settings", {}), "settings")
    if settings is None or problems:
        raise ConfigurationError(problems)
    undo = html.unescape if given.pop("html", False) else str
    sets = {
        name: TranslatedSet(
            read(one["source"]),
            read(one["reference"]),
            {system: [undo(line) for line in read(path)] for system, path in one["systems"].items()},
        )
        for name, one in given.items()
    }
    start = time.perf_counter()
    found = profile(sets, settings, folder)
    seconds = time.perf_counter() - start
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "failures.json", found)
    for name, one in found.items():
        print(f"\n### {name}\n\n{markdown_table(*failure_table(one))}\n")
        print(*(f"- {said}" for said in failure_findings(one)), sep="\n")
    print("", *(f"- {note}" for note in NOTES), "", sep="\n")
    lines = sum(len(one.sources) * len(one.translations) for one in sets.values())
    print(json.dumps({"translations": lines, "seconds": round(seconds, 1), "python": platform.python_version()}))


def read(path: str) -> list[str]:
    """Returns the lines of a file."""
    return [clean_text(line.decode("utf-8", "replace")) for line in TextFiles([Path(path)])]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
