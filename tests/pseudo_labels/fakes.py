"""Engines of a few lines, and a labelling job to be run, killed and shared in processes of its own.

python -m tests.pseudo_labels.fakes sources folder [--devices 2] [--delay 0.01] [--die-at 250]
"""

import argparse
import io
import os
import random
import signal
import tarfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from nemo_distill.decoding.engine import EMPTY, Hypothesis, Translation
from nemo_distill.decoding.settings import SearchSettings
from nemo_distill.pseudo_labels.filters import NO_FILTERS
from nemo_distill.pseudo_labels.generate import LabelNoise, Translator, generate, searching
from nemo_distill.pseudo_labels.selection import Criteria
from nemo_distill.pseudo_labels.shards import LabelFolder
from nemo_distill.text.lines import LinePolicy

POLICY = LinePolicy(max_characters=200, invalid_utf8="skip", control_characters="clean")
SEARCH = SearchSettings(beam_size=4, n_best=3)


@dataclass
class Shouting:
    """Translates into upper case, with `n_best` hypotheses that lose a word each; each chunk takes `delay` seconds.

    At a line that holds the word `die_at` the process kills itself, as the machine's failure would.
    """

    delay: float = 0.0
    die_at: str = ""
    lines_seen: int = 0

    def translate(self, lines, settings):
        time.sleep(self.delay)
        self.lines_seen += len(lines)
        return [self._translate(line, settings) for line in lines]

    def _translate(self, line, settings):
        if not line:
            return EMPTY
        words = line.upper().split()
        if self.die_at and self.die_at in line.split():
            os.kill(os.getpid(), signal.SIGKILL)
        texts = [" ".join(words[: len(words) - lost]) for lost in range(min(settings.n_best, len(words)))]
        hypotheses = (Hypothesis(text, -len(line) / 7 - lost, len(words) < 12) for lost, text in enumerate(texts))
        return Translation(tuple(hypotheses), source_cut=len(words) > 14)


TRANSLATOR = b"target: nemo.collections.nlp.models.machine_translation.mt_enc_dec_model.MTEncDecModel\n"


def write_model(path, content=TRANSLATOR, **artifacts):
    """Writes a file that looks like a `.nemo` from outside, with a config and artifacts by their names."""
    with tarfile.open(path, "w") as archive:
        for name, held in {"model_config.yaml": content, **artifacts}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(held)
            archive.addfile(entry, io.BytesIO(held))
    return path


class CommonLetters:
    """Scores a target by the share of its letters that are in the source."""

    def score(self, sources, targets):
        pairs = zip(sources, targets)
        return [sum(c in source.lower() for c in target.lower()) / len(target) - 1 for source, target in pairs]


def write_source(path, lines, seed=0):
    """Writes lines of random words, each with its number, and odd lines of every kind among them."""
    generator = random.Random(seed)
    odd = (
        b"",
        b"   ",
        b"caf\xe9",
        b"x" * 300,
        "a\u2028b c".encode(),
        b"tab\there\r",
        b"nul\x00",
        b"\xef\xbb\xbfbom",
        b"\r",
    )
    with path.open("wb") as stream:
        for number in range(1, lines + 1):
            words = [str(number), *generator.choices(["der", "die", "Hund", "sieht"], k=generator.randint(1, 15))]
            stream.write((generator.choice(odd) if generator.random() < 0.2 else " ".join(words).encode()) + b"\n")
    return path


NO_NOISE = LabelNoise()


def label_folder(sources, folder, shard_lines=20, **settings):
    """A folder whose settings are its shards' size, its sources' and what else is given."""
    recorded = {
        "shard_lines": shard_lines,
        "sources": [{"name": path.name, "bytes": path.stat().st_size} for path in sources],
        **settings,
    }
    return LabelFolder(folder, recorded, sources)


def run(
    sources, folder, engine=None, reverse=None, rank=0, world_size=1, overwrite=False, noise=NO_NOISE, shard_lines=20,
    chunk_lines=7, policy=POLICY, **settings,
):  # fmt: skip
    """Generates in this process and returns the manifest."""
    labels = label_folder(sources, folder, shard_lines, **settings)
    translator = Translator(searching(engine or Shouting(), SEARCH), policy, reverse, noise)
    return generate(labels, shard_lines, chunk_lines, lambda: translator, rank, world_size, overwrite)


def contents(folder):
    """The bytes of all files of a folder, by their names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--die-at", default="")
    arguments = parser.parse_args()
    engine = Shouting(arguments.delay, arguments.die_at)
    if not arguments.devices:
        run([arguments.sources], arguments.folder, engine)
        return
    from nemo_distill.commands.processes import processes

    with processes("cpu", arguments.devices) as process:
        run([arguments.sources], arguments.folder, engine, rank=process.rank, world_size=process.world_size)


if __name__ == "__main__":
    main()


def only(**filters):
    """No filters but these."""
    return replace(NO_FILTERS, **filters)


def criteria_of(filters, selection="one_best", metric="bleu", **others):
    """Criteria of a language without a tokenization of its own; several metrics have equal weights."""
    return Criteria(selection=selection, metric=dict.fromkeys(metric.split("+"), 1.0), filters=filters, **others)
