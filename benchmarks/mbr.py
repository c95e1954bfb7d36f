"""How long selection by minimum Bayes risk takes: 32 samples for each of 100,000 lines, on two cores.

    python benchmarks/mbr.py                          # text made by the benchmark: about 15 minutes
    python benchmarks/mbr.py --quick                  # 1,000 lines, in seconds
    python benchmarks/mbr.py --text a.en b.en         # lines from parallel translations of your own, plain or gzip

The real job: labels of 32 samples a line are selected, filtered and written as text. A sample is one of the parallel
translations with a few words replaced by those of another one, so that samples differ as a teacher's do. Beside it
stands the time of fastchrf (`pip install fastchrf`), which scores pair by pair, if it is installed. The last line is a
JSON object: the seconds for each metric and number of processes, the peak memory of the main process with a tenth of
the lines and with all, and the seconds per 100,000 lines of the arithmetic alone, on one core.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

LINES, QUICK_LINES, SAMPLES = 100_000, 1_000, 32
REPLACED = 0.15  # of the words of a sample
METRICS: dict[str, dict[Any, float]] = {
    "chrf": {"chrf": 1.0},
    "bleu": {"bleu": 1.0},
    "bleu + chrf": {"bleu": 0.5, "chrf": 0.5},
}
ONE_PROCESS = ("chrf", 1)  # shows the memory, because the main process does all by itself
ALONE = 500  # lines for the arithmetic alone


def made_up(lines: int) -> Iterator[tuple[str, ...]]:
    """Yields four translations a line, of 22 words on average."""
    generator = random.Random(0)
    words = ["".join(generator.choices("etaoinshrdlu", k=generator.randint(1, 9))) for _ in range(8000)]
    for _ in range(lines):
        line = generator.choices(words, k=generator.randint(5, 40))
        yield tuple(
            " ".join(generator.choice(words) if generator.random() < 0.2 else word for word in line) for _ in range(4)
        )


def given(paths: Sequence[Path], lines: int) -> Iterator[tuple[str, ...]]:
    """Yields the translations of each line, again from the start where the files end."""
    from nemo_distill.text.lines import TextFiles

    while lines > 0:
        for texts in islice(zip(*(TextFiles([path]) for path in paths)), lines):
            yield tuple(text.decode() for text in texts)
            lines -= 1


def samples(texts: Sequence[str], generator: random.Random) -> list[str]:
    """Returns samples of one line."""
    worded = [text.split() for text in texts]
    found = []
    for _ in range(SAMPLES):
        line, other = generator.choice(worded), generator.choice(worded)
        mixed = [generator.choice(other) if other and generator.random() < REPLACED else word for word in line]
        found.append(" ".join(mixed))
    return found


def write_labels(folder: Path, lines: Iterator[tuple[str, ...]]) -> None:
    """Writes a source, whose lines are numbers, and labels with samples of each line."""
    from nemo_distill.decoding.engine import Hypothesis, Translation
    from nemo_distill.pseudo_labels.generate import Translator, generate
    from nemo_distill.text.lines import LinePolicy

    generator, waiting = random.Random(0), list(lines)
    (folder / "text").write_text("".join(f"{number}\n" for number in range(len(waiting))))

    def translate(first_line: int, texts: Sequence[str]) -> list[Translation]:
        found = [samples(waiting[first_line - 1 + place], generator) for place in range(len(texts))]
        return [Translation(tuple(Hypothesis(text, 0.0) for text in drawn)) for drawn in found]

    generate(opened(folder), 5000, 500, lambda: Translator(translate, LinePolicy()))


def opened(folder: Path) -> Any:
    """Returns the labels."""
    from nemo_distill.pseudo_labels.shards import LabelFolder

    return LabelFolder(folder / "labels", {"sources": [{"name": "text"}]}, [folder / "text"])


def select(folder: Path, metric: str, workers: int) -> dict[str, float]:
    """Selects labels in this process, and returns the seconds and the peak memory in MB."""
    from nemo_distill.pseudo_labels.assemble import Assembly, assemble
    from nemo_distill.pseudo_labels.selection import Criteria
    from nemo_distill.text.lines import LinePolicy

    criteria = Criteria(selection="mbr", metric=METRICS[metric])
    (folder / "labels" / "pseudo.json").unlink(missing_ok=True)  # or what is there would not be made again
    started = time.perf_counter()
    assembly = Assembly(opened(folder), [None], LinePolicy(), criteria, workers=workers)
    assemble(assembly, overwrite=True)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def select_apart(folder: Path, metric: str, workers: int) -> dict[str, float]:
    """Does the same in a process of its own, in which each process has one thread."""
    command = [sys.executable, __file__, "--folder", str(folder), "--metric", metric, "--workers", str(workers)]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if result.returncode:
        raise RuntimeError(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def arithmetic(pools: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns the seconds per 100,000 lines of the similarities alone, ours and fastchrf's, in this process."""
    from nemo_distill.pseudo_labels.similarity import similarities

    ways: dict[str, Callable[..., Any]] = {
        f"our {name}": lambda pool, weights=weights: similarities(pool, pool, weights)
        for name, weights in METRICS.items()
    }
    if find_spec("fastchrf"):
        from fastchrf import pairwise_chrf

        ways["fastchrf"] = lambda pool: pairwise_chrf([pool], [pool])
    found = {}
    for name, compare in ways.items():
        started = time.process_time()
        for pool in pools:
            compare(pool)
        found[name] = round((time.process_time() - started) * LINES / len(pools), 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_LINES:,} lines")
    parser.add_argument("--text", type=Path, nargs="+", help="parallel translations, instead of text made here")
    parser.add_argument("--folder", type=Path, help="select from the labels that are there, in this process")
    parser.add_argument("--metric", choices=METRICS)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(select(arguments.folder, arguments.metric, arguments.workers)))
        return
    lines = QUICK_LINES if arguments.quick else LINES
    texts = list(given(arguments.text, lines) if arguments.text else made_up(lines))
    record = measure(texts)
    pools = [samples(line, random.Random(0)) for line in texts[: min(ALONE, lines)]]
    record["arithmetic"] = arithmetic(pools)
    print(json.dumps(record))


def measure(texts: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Selects labels of all lines and of a tenth of them, prints a table and returns what it says."""
    record: dict[str, Any] = {"lines": len(texts), "samples": SAMPLES, "seconds": {}, "megabytes": {}}
    print("| metric | processes | lines | s | MB of the main process |")
    print("| --- " * 5 + "|")
    for part in (len(texts) // 10, len(texts)):
        with tempfile.TemporaryDirectory() as name:
            write_labels(Path(name), iter(texts[:part]))
            others = [(metric, 2) for metric in METRICS] if part == len(texts) else []
            for metric, workers in [ONE_PROCESS, *others]:
                found = select_apart(Path(name), metric, workers)
                record["megabytes"][f"{metric}, {workers}, {part} lines"] = round(found["megabytes"])
                if part == len(texts):
                    record["seconds"][f"{metric}, {workers}"] = round(found["seconds"], 1)
                print(f"| {metric} | {workers} | {part:,} | {found['seconds']:.1f} | {found['megabytes']:.0f} |")
    return record


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy is imported
    os.environ.setdefault("RAYON_NUM_THREADS", "1")  # of fastchrf
    main()
