"""Whether labels, mixes and caches take time in proportion to the lines, and memory that does not grow with them.

    python benchmarks/scale.py            # 10⁴, 10⁵ and 10⁶ lines: about 10 minutes
    python benchmarks/scale.py --quick    # 10³ and 10⁴ lines, in under a minute

The real jobs with a teacher that costs nothing, so that what is left is what the pipeline itself takes: an engine that
gives a line back in upper case, and random log-probabilities over 100 words of text that is read without NeMo. Each
measurement has a process of its own. The last line is a JSON object: for each job the seconds per 10⁵ lines at each
size, the exponent of a fit of log time against log lines, both again for the processor's time alone, which other work
on the machine changes less, the peak memory at the largest size over that at the smallest, which with --quick fills no
shard, and the bytes for each line that it rose by between the two.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

SIZES, QUICK_SIZES = (10**4, 10**5, 10**6), (10**3, 10**4)
WORDS = 100  # of both languages
BATCH = 250  # pairs that the cache's teacher sees, and a training reads, at a time
SHARD = 5000  # lines or pairs; small, so that the least of SIZES fills two
K = 8
# All that is read of a teacher.
TRANSLATOR = b"target: nemo.collections.nlp.models.machine_translation.mt_enc_dec_model.MTEncDecModel\n"


class PeakMemory(threading.Thread):
    """The most memory that this process had while it was looked at, in bytes.

    Pages of files that are mapped, which the kernel may drop at any time, are not counted.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = self._now()
        self.start()

    def run(self) -> None:
        while True:
            self.bytes = max(self.bytes, self._now())
            time.sleep(0.005)

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()  # Linux
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def write_text(folder: Path, lines: int) -> None:
    """Writes parallel text, of which one pair in ten came before."""
    generator = random.Random(0)
    with (folder / "text.src").open("w") as source, (folder / "text.tgt").open("w") as target:
        earlier: list[list[int]] = []
        for _ in range(lines):
            words = generator.choices(range(WORDS), k=generator.randint(5, 35))
            if earlier and generator.random() < 0.1:
                words = generator.choice(earlier)
            elif len(earlier) < SHARD:
                earlier.append(words)
            source.write(" ".join(f"w{word}" for word in words) + "\n")
            target.write(" ".join(f"W{word}" for word in words) + "\n")


class UpperCase:
    """An engine that costs nothing."""

    def translate(self, lines: Sequence[str], settings: Any) -> list[Any]:
        from nemo_distill.decoding.engine import EMPTY, Hypothesis, Translation

        return [Translation((Hypothesis(line.upper(), -len(line) / 100),)) if line else EMPTY for line in lines]


def labels(folder: Path) -> Any:
    """Returns the labels' folder as it is made of the text."""
    from nemo_distill.pseudo_labels.shards import LabelFolder

    sources = [folder / "text.src"]
    recorded = {"sources": [{"name": path.name, "bytes": path.stat().st_size} for path in sources]}
    return LabelFolder(folder / "labels", recorded, sources)


def policy() -> Any:
    """Returns what the scripts do with odd lines."""
    from nemo_distill.text.lines import LinePolicy

    return LinePolicy(max_characters=5000, invalid_utf8="skip", control_characters="clean")


def run_generate(folder: Path) -> None:
    """Translates into shards."""
    from nemo_distill.decoding.settings import SearchSettings
    from nemo_distill.pseudo_labels.generate import Translator, generate, searching

    translator = Translator(searching(UpperCase(), SearchSettings()), policy())
    generate(labels(folder), SHARD, 2048, lambda: translator)


def run_assemble(folder: Path) -> None:
    """Selects and filters, with all filters but the reverse model's, and writes text."""
    from nemo_distill.pseudo_labels.assemble import Assembly, assemble
    from nemo_distill.pseudo_labels.filters import FilterSettings
    from nemo_distill.pseudo_labels.selection import Criteria

    criteria = Criteria(metric={"bleu": 1.0}, filters=FilterSettings(score_quantile=0.05))
    assemble(Assembly(labels(folder), [None], policy(), criteria))


def run_mix(folder: Path) -> None:
    """Mixes the text with itself, half and half."""
    from nemo_distill.text.mixing import Corpus, Mix, write_mix

    corpus = Corpus([folder / "text.src"], [folder / "text.tgt"], share=0.5)
    lines = sum(1 for _ in (folder / "text.src").open())
    write_mix(Mix({"real": corpus, "pseudo": corpus}, folder / "mixed", policy(), lines=lines))


class RandomTeacher:
    """A cache's teacher that costs nothing: it reads the text as ids, and all its tokens have the same few words."""

    pad_id, vocab_size = 0, WORDS + 1

    def __init__(self, folder: Path):
        import torch

        self.folder = folder
        self.num_batches = math.ceil(sum(1 for _ in (folder / "text.src").open()) / BATCH)
        self.of_a_token = torch.randn(self.vocab_size, generator=torch.Generator().manual_seed(0)).log_softmax(0)

    def batches(self) -> Iterator[list[Any]]:
        """Yields what NeMo's data sets would."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        with (self.folder / "text.src").open() as source, (self.folder / "text.tgt").open() as target:
            for _ in range(self.num_batches):
                sides = []
                for stream in (source, target):
                    rows = [[int(word[1:]) + 1 for word in line.split()] for line in islice(stream, BATCH)]
                    sides.append(pad_sequence([torch.tensor(row) for row in rows], batch_first=True))
                src_ids, labels = sides
                yield [src_ids, src_ids != 0, labels, labels != 0, labels]

    def log_probs(self, batch: Sequence[Any]) -> Any:
        """Returns (B, T, V)."""
        return self.of_a_token.expand(*batch[-1].shape, -1)


def run_cache(folder: Path) -> None:
    """Builds a teacher cache."""
    import io
    import tarfile

    from nemo_distill.storage.ledger import fingerprint
    from nemo_distill.teacher_cache.build import build
    from nemo_distill.teacher_cache.folder import CacheFolder
    from nemo_distill.teacher_cache.settings import CacheSettings

    with tarfile.open(folder / "teacher.nemo", "w") as archive:
        entry = tarfile.TarInfo("model_config.yaml")
        entry.size = len(TRANSLATOR)
        archive.addfile(entry, io.BytesIO(TRANSLATOR))
    settings = {"teacher": fingerprint(folder / "teacher.nemo"), "k": K, "dtype": "float16"}
    cache = CacheFolder(folder / "cache", settings, folder / "teacher.nemo")
    build(cache, CacheSettings(k=K, dtype="float16", shard_pairs=SHARD), lambda: RandomTeacher(folder))


def run_read(folder: Path) -> None:
    """Reads a cache as a training does: batch by batch, each of pairs from all over it."""
    import numpy as np

    from nemo_distill.teacher_cache.cache import TeacherCache

    cache = TeacherCache(folder / "cache")
    keys = np.load(folder / "cache" / "index.keys.npy", mmap_mode="r")
    for begin in range(0, len(keys), BATCH):  # the order of hashes is a random one
        cache.records(np.array(keys[begin : begin + BATCH]))


JOBS: dict[str, Callable[[Path], None]] = {
    "translate into shards": run_generate,
    "filter, write text": run_assemble,
    "mix": run_mix,
    "build a teacher cache": run_cache,
    "read it for an epoch": run_read,
}


def measure(name: str, folder: Path) -> dict[str, float]:
    """Runs one job in this process, whose imports a run on a few lines has made before."""
    with tempfile.TemporaryDirectory(dir=folder) as small:
        write_text(Path(small), 2 * BATCH)
        for job in JOBS.values():
            job(Path(small))
            if job is JOBS[name]:
                break
    peak, started, worked = PeakMemory(), time.perf_counter(), time.process_time()
    JOBS[name](folder)
    seconds = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - worked}
    return seconds | {"bytes": peak.bytes}


def measure_apart(name: str, folder: Path) -> dict[str, float]:
    """Lets a process of its own measure a job."""
    command = [sys.executable, __file__, "--job", name, "--folder", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{name} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def slope(xs: list[float], ys: list[float]) -> float:
    """Returns that of the straight line of least squares."""
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    products = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys))
    return products / sum((x - x_mean) ** 2 for x in xs)


def compare(sizes: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Measures all jobs at all sizes, prints a table and returns what it says."""
    costs: dict[str, list[dict[str, float]]] = {name: [] for name in JOBS}
    for lines in sizes:
        with tempfile.TemporaryDirectory() as name:
            write_text(Path(name), lines)
            for job, found in costs.items():
                found.append(measure_apart(job, Path(name)))
    columns = [f"{lines:,} lines: s per 10⁵, of the processor, MB" for lines in sizes]
    print(f"| job | {' | '.join(columns)} | exponent | of the processor | memory, ratio | bytes a line |")
    print("| --- " * (len(sizes) + 5) + "|")
    return {job: told(job, found, sizes) for job, found in costs.items()}


def told(job: str, costs: list[dict[str, float]], sizes: tuple[int, ...]) -> dict[str, Any]:
    """Prints a job's row, and returns what is in it."""
    result: dict[str, Any] = {}
    for key, prefix in (("seconds", ""), ("cpu_seconds", "cpu_")):
        per_lines = [cost[key] * 1e5 / lines for cost, lines in zip(costs, sizes)]
        result[f"{prefix}seconds_per_100k"] = {str(lines): round(value, 3) for lines, value in zip(sizes, per_lines)}
        logs = [math.log(lines) for lines in sizes], [math.log(cost[key]) for cost in costs]
        result[f"{prefix}exponent"] = round(slope(*logs), 3)
    rise = costs[-1]["bytes"] - costs[0]["bytes"]
    result["memory_ratio"] = round(costs[-1]["bytes"] / costs[0]["bytes"], 3)
    result["bytes_a_line"] = round(max(0, rise) / (sizes[-1] - sizes[0]), 1)
    spent = zip(result["seconds_per_100k"].values(), result["cpu_seconds_per_100k"].values(), costs)
    cells = " | ".join(f"{wall:.2f}, {cpu:.2f}, {cost['bytes'] / 1e6:.0f}" for wall, cpu, cost in spent)
    fits = " | ".join(f"{result[key]:.2f}" for key in ("exponent", "cpu_exponent", "memory_ratio"))
    print(f"| {job} | {cells} | {fits} | {result['bytes_a_line']:.1f} |")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10³ and 10⁴ lines")
    parser.add_argument("--job", choices=JOBS, help="measure this one alone, in this process")
    parser.add_argument("--folder", type=Path, help="where --job finds what the jobs before it have made")
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(measure(arguments.job, arguments.folder)))
    else:
        print(json.dumps(compare(QUICK_SIZES if arguments.quick else SIZES)))


if __name__ == "__main__":
    main()
