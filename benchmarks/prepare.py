"""How fast text becomes tarred data, next to NeMo's own preprocessing, and whether memory stays the same.

    python benchmarks/prepare.py            # 10⁵ and 10⁶ pairs: some minutes
    python benchmarks/prepare.py --quick    # 2 · 10³ and 2 · 10⁴ pairs

The text has words of random syllables, as frequent as Zipf's law says, about 20 in a line. Both get the same
tokenizer, fragments and processors. The text has a line more than its fragments, because NeMo loses the last one.
Each measurement has a process of its own, whose imports are not timed. Those of the processes that NeMo starts are,
and take most of its time with --quick. The last line is a JSON object: the pairs per second of ours and of NeMo's at
the largest size; their ratio; the seconds that a tokenizer takes to train on the largest text; and our peak memory at
the largest size over that at the smallest, whose fragments are as large.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from aims import print_aims
from scale import PeakMemory

SIZES, QUICK_SIZES = (10**5, 10**6), (2 * 10**3, 2 * 10**4)
VOCABULARY, PIECES, WORDS_IN_A_LINE = 20_000, 16_000, 20
TOKENS_IN_BATCH, BATCHES_IN_A_FILE = 8000, 10
AIMS = {"speed_over_nemo": ("at least", 1.0), "memory_ratio": ("at most", 1.2)}


def write_text(folder: Path, pairs: int) -> None:
    """Writes parallel text, and a line more; see the head of this file."""
    generator = random.Random(0)
    syllables = [first + last for first in "bdfgklmnprst" for last in ("a", "e", "i", "o", "u", "an", "er", "ung")]
    words = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    with (folder / "text.src").open("w") as source, (folder / "text.tgt").open("w") as target:
        for _ in range(pairs + 1):
            length = generator.randint(WORDS_IN_A_LINE // 4, 7 * WORDS_IN_A_LINE // 4)
            for stream in (source, target):
                stream.write(" ".join(generator.choices(words, cum_weights=weights, k=length)) + "\n")


def train(folder: Path, fragment: int) -> None:
    """Trains the tokenizer."""
    from nemo_distill.text.lines import LinePolicy
    from nemo_distill.text.tokenizer_training import TokenizerJob, TokenizerTraining, train_tokenizer

    texts = [folder / "text.src", folder / "text.tgt"]
    training = TokenizerTraining(vocab_size=PIECES, training_sample_size=200_000)
    train_tokenizer(TokenizerJob(folder / "own.model", texts, training, LinePolicy()))


def ours(folder: Path, fragment: int) -> None:
    """Writes tarred data."""
    from nemo_distill.text.batches import BatchSettings
    from nemo_distill.text.lines import LinePolicy
    from nemo_distill.text.tarred_data import TarredData, write_tarred_data
    from nemo_distill.text.token_ids import load_tokenizer

    settings = BatchSettings(
        tokens_in_batch=TOKENS_IN_BATCH,
        lines_per_dataset_fragment=fragment,
        num_batches_per_tarfile=BATCHES_IN_A_FILE,
    )
    files = [folder / "text.src"], [folder / "text.tgt"]
    with tempfile.TemporaryDirectory(dir=folder) as output:
        data = TarredData(Path(output), *files, {}, settings, LinePolicy())
        write_tarred_data(data, lambda: (load_tokenizer(folder / "own.model", "sentencepiece"),) * 2, shown=False)


def nemos(folder: Path, fragment: int) -> None:
    """Lets NeMo write tarred data, of all lines but the last."""
    from nemo.collections.nlp.data.machine_translation.preproc_mt_data import MTDataPreproc

    tokenizer = {"tokenizer_name": "sentencepiece", "tokenizer_model": str(folder / "own.model"), "bpe_dropout": 0.0}
    sides = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in tokenizer.items()}
    sides |= {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in NEMOS_DEFAULTS.items()}
    with tempfile.TemporaryDirectory(dir=folder) as output:
        MTDataPreproc.preprocess_parallel_dataset(
            clean=True,
            src_fname=str(folder / "text.src"),
            tgt_fname=str(folder / "text.tgt"),
            out_dir=output,
            max_seq_length=512,
            min_seq_length=1,
            tokens_in_batch=TOKENS_IN_BATCH,
            lines_per_dataset_fragment=fragment,
            num_batches_per_tarfile=BATCHES_IN_A_FILE,
            global_rank=0,
            world_size=1,
            n_jobs=len(os.sched_getaffinity(0)),
            **sides,
        )


NEMOS_DEFAULTS = {"model_name": None, "tokenizer_r2l": False}
JOBS: dict[str, Callable[[Path, int], None]] = {"train": train, "ours": ours, "nemos": nemos}


def measure(name: str, folder: Path, fragment: int) -> dict[str, float]:
    """Runs one job in this process."""
    if name == "nemos":
        import nemo.collections.nlp.data.machine_translation.preproc_mt_data  # noqa: F401  (imports are not timed)
    else:
        import nemo_distill.text.tarred_data  # noqa: F401
    peak, started = PeakMemory(), time.perf_counter()
    JOBS[name](folder, fragment)
    return {"seconds": time.perf_counter() - started, "bytes": peak.bytes}


def measure_apart(name: str, folder: Path, fragment: int) -> dict[str, float]:
    """Lets a process of its own measure a job."""
    command = [sys.executable, __file__, "--job", name, "--folder", str(folder), "--fragment", str(fragment)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{name} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def compare(sizes: tuple[int, ...]) -> dict[str, Any]:
    """Measures all jobs at all sizes, prints a table and returns what it says."""
    fragment, costs = sizes[0] // 2, {}
    print("| pairs | tokenizer, s | ours, s | NeMo, s | ours, MB |\n| --- " + "| --- " * 4 + "|")
    for pairs in sizes:
        with tempfile.TemporaryDirectory() as name:
            write_text(Path(name), pairs)
            costs[pairs] = {job: measure_apart(job, Path(name), fragment) for job in JOBS}
        seconds = " | ".join(f"{costs[pairs][job]['seconds']:.1f}" for job in JOBS)
        print(f"| {pairs:,} | {seconds} | {costs[pairs]['ours']['bytes'] / 1e6:.0f} |")
    last, first = costs[sizes[-1]], costs[sizes[0]]
    return {
        "pairs": sizes[-1],
        "pairs_per_second": round(sizes[-1] / last["ours"]["seconds"]),
        "nemo_pairs_per_second": round(sizes[-1] / last["nemos"]["seconds"]),
        "speed_over_nemo": round(last["nemos"]["seconds"] / last["ours"]["seconds"], 2),
        "tokenizer_seconds": round(last["train"]["seconds"], 1),
        "memory_ratio": round(last["ours"]["bytes"] / first["ours"]["bytes"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 · 10³ and 2 · 10⁴ pairs")
    parser.add_argument("--job", choices=JOBS, help="measure this one alone, in this process")
    parser.add_argument("--folder", type=Path, help="where --job finds the text")
    parser.add_argument("--fragment", type=int, help="lines in a fragment, of --job")
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(measure(arguments.job, arguments.folder, arguments.fragment)))
        return
    found = compare(QUICK_SIZES if arguments.quick else SIZES)
    print_aims(found, AIMS)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
