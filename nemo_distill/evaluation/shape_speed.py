"""Times models of any shape before they are trained: random weights in int8, and translations of forced lengths.

The engine is that of an exported student, so that tokenizing, batches and threads are as they will be. A model with
random weights does not know when to stop; each translation gets a length in proportion to its source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import Field

from nemo_distill.config.section import section
from nemo_distill.console import console
from nemo_distill.decoding.ctranslate2_engine import CTranslate2Engine
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.evaluation.speed import MEGABYTE, timed_translations
from nemo_distill.export.random_model import write_random_model
from nemo_distill.nemo_files.archive import NemoArchive
from nemo_distill.nemo_files.model_kinds import SIDES
from nemo_distill.storage.files import versions
from nemo_distill.storage.ledger import Work, digest_of
from nemo_distill.storage.made_with import device_name, made_with

REVISION = 2  # increase it when something else is timed, so that stored measurements are not used
WORDS_ALONE = 20  # words of a made-up sentence, on average


@section
class ShapeSpeed:
    """How shapes are timed, beside the teacher's."""

    sentences: int = Field(default=64, ge=1)
    """Number of sentences translated together."""
    latency_sentences: int = Field(default=16, ge=1)
    """Number of sentences translated one at a time, whose lengths are spread as those of the text."""
    rounds: int = Field(default=3, ge=1)
    """Number of rounds. A warm-up before is not measured."""
    beam_size: int = Field(default=4, ge=1)
    """Beam size of the teacher; 1 is greedy search."""
    student_beam_size: int | None = Field(default=None, ge=1)
    """Beam size of the students; null: that of the teacher."""


@dataclass(frozen=True)
class TimedText:
    """The sentences to translate.

    Args:
        sources: the sentences.
        targets: translations of them, or of some of them, which set the lengths; none: translations are as long as
            their sources.
    """

    sources: Sequence[str]
    targets: Sequence[str] = ()


@dataclass(frozen=True)
class MeasuredShape:
    """What was measured of a shape.

    Args:
        megabytes: the size of the export, in 10**6 bytes.
        rates: sentences per second when translating together, by round.
        milliseconds: median time of one sentence translated alone.
    """

    megabytes: float
    rates: Sequence[float]
    milliseconds: float

    @property
    def sentences_per_second(self) -> float:
        """The median round."""
        return float(np.median(self.rates))


class ForcedEngine(CTranslate2Engine):
    """An export whose translations have lengths in proportion to their sources.

    Args:
        folder: the export.
        text: sets the proportion.
        device: `cpu`, `cuda` or `cuda:1`.
    """

    def __init__(self, folder: Path, text: TimedText, device: str):
        kind, _, index = device.partition(":")
        super().__init__(folder, kind, int(index or 0))
        pairs = list(zip(text.sources, text.targets))
        self._ratio = 1.0
        if pairs:
            sources, targets = zip(*pairs)
            tokens = sum(len(ids) + 1 for ids in self._target_tokenizer.encode(list(targets)))  # with their ends
            self._ratio = tokens / max(1, sum(len(source.tokens) for source in self._read(sources)))

    def _limit(self, source: Any, settings: SearchSettings) -> int:
        return max(1, min(self._record.target.positions, round(self._ratio * len(source.tokens))))

    def _least(self, limit: int) -> int:
        return limit


def made_up_text(pieces: Sequence[str], sentences: int) -> TimedText:
    """Returns sentences of random words of a vocabulary, for timing without text."""
    generator = Random(0)
    words = [piece[1:] for piece in pieces if piece.startswith("▁") and piece[1:].isalnum()] or ["a"]
    lengths = [generator.randint(WORDS_ALONE // 4, 2 * WORDS_ALONE - WORDS_ALONE // 4) for _ in range(sentences)]
    return TimedText([" ".join(generator.choices(words, k=length)) for length in lengths])


def of_all_lengths(sources: Sequence[str], count: int) -> list[str]:
    """Returns `count` sentences whose lengths are spread as those of all sentences, or all if there are fewer.

    The median time of a few depends on which they are. The median length of 16 sentences, drawn from 3,000 of
    Tatoeba, was 9 % off in half of the draws, and 15 % in a quarter.
    """
    count, ordered = min(count, len(sources)), sorted(sources, key=len)
    return [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]


def measured_shape(
    config: Mapping[str, Any],
    archive: NemoArchive,
    text: TimedText,
    settings: ShapeSpeed,
    beam_size: int,
    device: str,
    threads: int,
    folder: Path,
) -> MeasuredShape:
    """Returns the size and speed of a shape on this machine, measured unless they were before.

    Args:
        config: the config of the model: `encoder`, `decoder` and `shared_embeddings`.
        archive: the teacher's `.nemo`, whose tokenizers the model has.
        text: what is translated.
        settings: numbers of sentences and rounds.
        beam_size: the beam size.
        device: `cpu`, `cuda` or `cuda:1`.
        threads: number of CPU threads, as OMP_NUM_THREADS has it.
        folder: where measurements are kept.
    """
    depends = {
        "config": {key: config[key] for key in (*SIDES, "shared_embeddings")},
        "tokenizers": {side: archive.config[f"{side}_tokenizer"].tokenizer_model for side in SIDES},
        "text": digest_of(asdict(text)),
        "speed": asdict(settings) | {"beam_size": beam_size, "student_beam_size": None},
        "machine": device_name(device),
        "device": device,
        "threads": threads,
        "versions": versions(["ctranslate2", "nemo_distill"]),
        "revision": REVISION,
    }
    work = Work(folder / f"speed.{digest_of(depends)}.json", depends)

    def measure() -> dict[str, Any]:
        return _measure(config, archive, text, settings, beam_size, device) | {"made_with": made_with(device, threads)}

    found = work.kept(measure)
    return MeasuredShape(found["megabytes"], found["rates"], found["milliseconds"])


def _measure(
    config: Mapping[str, Any], archive: NemoArchive, text: TimedText, settings: ShapeSpeed, beam_size: int, device: str
) -> dict[str, Any]:
    layers = "x".join(str(config[side]["num_layers"]) for side in SIDES)
    console.info(f"timing {layers} of width {config['encoder']['hidden_size']}")
    search = SearchSettings(beam_size=beam_size, length_penalty=0.0)
    together, alone = text.sources[: settings.sentences], of_all_lengths(text.sources, settings.latency_sentences)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_random_model(config, archive, folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        engine = ForcedEngine(folder, text, device)
    engine.translate(together, search)
    rates, latencies = [], []
    for _ in range(settings.rounds):
        rates.append(len(together) / timed_translations(engine, together, search)[1])
        latencies += [1000 * timed_translations(engine, [line], search)[1] for line in alone]
    return {"megabytes": size / MEGABYTE, "rates": rates, "milliseconds": float(np.median(latencies))}
