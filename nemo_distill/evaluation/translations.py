"""The texts of an evaluation: source sentences, references and the translations of each system."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nemo_distill import __version__
from nemo_distill.console import console
from nemo_distill.decoding.engine import Engine, Translation, translate_parts
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.evaluation_sets import EvaluationSet, read_lines
from nemo_distill.evaluation.systems import System, TextSystem
from nemo_distill.failures.profile import TranslatedSet
from nemo_distill.progress import shown_progress
from nemo_distill.storage.files import versions, whole_file
from nemo_distill.storage.ledger import Work, fingerprint, sha256_of
from nemo_distill.text.lines import clean_text

CHUNK = 2048  # sentences that are sorted by length and translated together
DECODERS = ("torch", "nemo_toolkit", "ctranslate2", "transformers")


@dataclass(frozen=True)
class Texts:
    """A folder of texts `SET.src`, `SET.ref`, `SET.ref2` and so on, and `SET.NAME.txt`, with one sentence per line.

    Each translation has a record `SET.NAME.json` of how it was made. It is not repeated if model, settings, versions
    and source are the same and the file was not changed.

    Args:
        folder: the folder.
        search: the search settings.
        chunk: number of sentences that are sorted by length and translated together.
    """

    folder: Path
    search: SearchSettings
    chunk: int = CHUNK

    def write_set(self, one: EvaluationSet) -> None:
        """Writes the sources and references of a test set."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for ending, path in {"src": one.source, **one.references}.items():
            _write(self.path(one, ending), read_lines(path))

    def new_set(
        self, name: str, sources: Sequence[str], references: Sequence[str], language: str | None
    ) -> EvaluationSet:
        """Writes a test set that there are no other files of, and returns it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        source, reference = (self.folder / f"{name}.{ending}" for ending in ("src", "ref"))
        _write(source, sources)
        _write(reference, references)
        return EvaluationSet(name, source, reference, language)

    def path(self, one: EvaluationSet, ending: str) -> Path:
        """Returns the file with ending `src`, `ref`, `ref2` or `NAME.txt`."""
        return self.folder / f"{one.name}.{ending}"

    def read(self, one: EvaluationSet, ending: str) -> list[str]:
        """Returns the lines of the file with ending `src`, `ref`, `ref2` or `NAME.txt`."""
        return self.path(one, ending).read_text(encoding="utf-8").split("\n")[:-1]

    def fingerprints(self, one: EvaluationSet, *endings: str) -> list[dict[str, str]]:
        """Returns the names and SHA-256 of the files with these endings."""
        return [fingerprint(self.path(one, ending)) for ending in endings]

    def translated_set(self, one: EvaluationSet, systems: Iterable[System] = ()) -> TranslatedSet:
        """Returns the texts of a test set, with the translations of systems, which must have translated it."""
        references, *more = (self.read(one, ending) for ending in one.references)
        translations = {system.name: self.read(one, f"{system.name}.txt") for system in systems}
        return TranslatedSet(self.read(one, "src"), references, translations, more_references=more)

    def translate(self, system: System, sets: Sequence[EvaluationSet], device: str) -> None:
        """Writes a system's missing translations of the test sets; of a system of text only, those that are there."""
        if isinstance(system, TextSystem):
            for one in sets:
                _write(self.path(one, f"{system.name}.txt"), system.lines(one.name))
            return
        missing = [one for one in sets if not self._is_made(system, one, device)]
        if not missing:
            return
        engine = system.load(device)
        for one in missing:
            made = translated(
                f"{system.name} {one.name}",
                engine,
                self.read(one, "src"),
                system.searched(self.search),
                self.chunk,
            )
            cut = sum(translation.source_cut for translation in made)
            blank = sum(translation.is_of_nothing for translation in made)
            if cut:
                what = f"the beginning of {cut:,} lines of {one.name}"
                console.warning(f"Warning: {system.name} reads only {what}; it has no positions for the rest.")
            if blank:
                console.warning(f"test_sets.{one.name} has {blank} lines without text; their translations are empty.")
            path = self.path(one, f"{system.name}.txt")
            _write(path, [clean_text(translation.text) for translation in made])
            self._work(system, one, device).finish({"sha256": sha256_of(path), "source_cut": cut})

    def _is_made(self, system: System, one: EvaluationSet, device: str) -> bool:
        path = self.path(one, f"{system.name}.txt")
        record = self._work(system, one, device).done(overwrite=True)
        return record is not None and path.is_file() and sha256_of(path) == record["sha256"]

    def _work(self, system: System, one: EvaluationSet, device: str) -> Work:
        kind = device.partition(":")[0]
        settings = {
            **system_settings(system),
            "search": asdict(system.searched(self.search)),
            "source": sha256_of(self.path(one, "src")),
            "versions": {"nemo_distill": __version__, **versions(DECODERS)},
            **({} if kind == "cpu" else {"device": kind}),
        }
        return Work(self.path(one, f"{system.name}.json"), settings)


def translated(
    label: str, engine: Engine, lines: Sequence[str], search: SearchSettings, chunk: int = CHUNK
) -> list[Translation]:
    """Returns the translations of lines, and shows the progress.

    Args:
        label: what is shown before the progress.
        engine: what translates.
        lines: the lines.
        search: how it searches.
        chunk: number of lines that are sorted by length and translated together.
    """
    found: list[Translation] = []
    with shown_progress(label, len(lines)) as on_progress:
        for part in translate_parts(engine, lines, search, chunk):
            found += part
            on_progress(len(found), len(part))
    return found


def system_settings(system: System) -> dict[str, Any]:
    """Returns what a system's translations depend on, except its name."""
    keys = ("engine", "dtype", "source_language", "target_language")
    return {"model": fingerprint(system.model), **{key: getattr(system, key) for key in keys}}


def _write(path: Path, lines: Sequence[str]) -> None:
    with whole_file(path) as stream:
        stream.writelines(f"{line}\n".encode() for line in lines)
