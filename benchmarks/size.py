"""How well `nemo-distill size` predicts: its bill beside the same work, done in full.

    python benchmarks/size.py            # generated text, a teacher 6x6 of width 256, a student 3x3: half an hour
    python benchmarks/size.py --quick    # less of everything, in some minutes; gives no verdict
    python benchmarks/size.py --frontier # only sizes and speeds, of all students beside a teacher 24x6 of width 1,024
    python benchmarks/size.py --teacher teacher.nemo --source train.de --target train.en --student base_6x2 --steps 300

The bill says what labels, a teacher cache and a training will take, and how fast the student will be. Then the text is
labelled and cached, the student is trained and exported, and teacher and student are timed in CTranslate2 int8. The
start of a process is not part of a bill; it is measured and added. A ratio is what was predicted over what was seen.
The last line is a JSON object: by which factor each prediction is wrong.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aims import print_verdict

MOST_WRONG = 1.3
START = "import nemo_distill; nemo_distill.DistillableMTEncDecModel"
NO_VALIDATION = ("~model.validation_ds", "~model.test_ds")
MONITOR = "+exp_manager.checkpoint_callback_params.monitor=train_loss"


@dataclass(frozen=True)
class Work:
    """What is predicted, and then done.

    Args:
        folder: where all of it is written.
        teacher: the `.nemo`.
        source: the text.
        target: its translations.
        student: a name in conf/student/.
        steps: of the student's training.
        tokens_in_batch: of the student's training.
        seconds: of a probe.
    """

    folder: Path
    teacher: Path
    source: Path
    target: Path
    student: str
    steps: int
    tokens_in_batch: int
    seconds: float

    @property
    def data(self) -> list[str]:
        """The keys of the text."""
        return [f"model.train_ds.src_file_name={self.source}", f"model.train_ds.tgt_file_name={self.target}"]


def run(job: str, *overrides: str) -> float:
    """Runs a job and returns its seconds. What it prints goes to standard error."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "nemo_distill", job, *overrides], check=True, stdout=sys.stderr)
    return time.perf_counter() - began


def generated(folder: Path, sentences: int, steps: int) -> tuple[Path, Path, Path]:
    """Writes text of the demo's grammar and trains a teacher on it. Returns teacher, source and target."""
    from nemo_distill.demo_corpus import write_demo_corpus

    corpus = folder / "corpus"
    corpus.mkdir()
    write_demo_corpus(corpus, sentences, validation=1, test=1, monolingual=1)
    source, target = corpus / "train.de", corpus / "train.en"
    size = ["hidden_size=256", "inner_size=1024", "num_attention_heads=4", "num_layers=6", "pre_ln=true"]
    run(
        "train", f"model.train_ds.src_file_name={source}", f"model.train_ds.tgt_file_name={target}", *NO_VALIDATION,
        *(f"model.{side}.{key}" for side in ("encoder", "decoder") for key in size),
        f"model.preproc_out_dir={folder}/tokenizer", "model.encoder_tokenizer.vocab_size=1000",
        "model.decoder_tokenizer.vocab_size=1000", "model.src_language=ignore", "model.tgt_language=ignore",
        "model.shared_embeddings=true", "model.train_ds.tokens_in_batch=2000", f"+trainer.max_steps={steps}",
        "model.optim.lr=0.0005", f"+exp_manager.explicit_log_dir={folder}/teacher", MONITOR,
    )  # fmt: skip
    (teacher,) = (folder / "teacher").rglob("*.nemo")
    return teacher, source, target


def predicted(work: Work) -> dict[str, float]:
    """Returns the bill: seconds, bytes and speeds."""
    run(
        "size", f"teacher={work.teacher}", f"output_dir={work.folder}/sizes", f"recipe.source={work.source}",
        f"recipe.target={work.target}", "recipe.cache={}", f"+recipe.distill.trainer.max_steps={work.steps}",
        f"+recipe.distill.model.train_ds.tokens_in_batch={work.tokens_in_batch}",
        f"recipe.seconds={work.seconds}", "shown=100",
    )  # fmt: skip
    bill = json.loads((work.folder / "sizes" / "sizes.json").read_text())
    (student,) = (one for one in bill["students"] if one["name"] == work.student)
    return {
        "seconds of labelling": 3600 * bill["labelling"]["hours"],
        "seconds of caching": 3600 * bill["caching"]["hours"],
        "seconds of training": 3600 * student["training"]["hours"],
        "MB of labels": bill["labelling"]["bytes"] / 1e6,
        "MB of the cache": bill["caching"]["bytes"] / 1e6,
        "MB of checkpoints": student["training"]["bytes"] / 1e6,
        **speeds("teacher", bill["teacher_speed"]),
        **speeds("student", student["measured"]),
        "student's speed over the teacher's": student["faster"],
    }


def speeds(name: str, measured: Mapping[str, Any]) -> dict[str, float]:
    """Returns what the bill says of a model's export."""
    return {
        f"MB of the {name} in int8": measured["megabytes"],
        f"sentences/s of the {name}": sorted(measured["rates"])[len(measured["rates"]) // 2],
        f"ms alone of the {name}": measured["milliseconds"],
    }


def done(work: Work) -> dict[str, float]:
    """Does all of it, and returns the same of what was seen."""
    from nemo_distill.nemo_files.archive import NemoArchive

    folder, shared = (
        work.folder,
        NemoArchive(work.teacher).config.shared_embeddings,
    )  # the bill's students have the same
    found = {
        "seconds of labelling": run(
            "label", f"model={work.teacher}", f"source={work.source}", f"output_dir={folder}/labels"
        ),
        "seconds of caching": run(
            "cache", f"model.distillation.model_path={work.teacher}",
            f"model.distillation.teacher_cache={folder}/cache", *work.data,
        ),
        "seconds of training": run(
            "distill", f"student={work.student}", f"model.distillation.teacher_cache={folder}/cache", *work.data,
            *NO_VALIDATION, f"+trainer.max_steps={work.steps}", f"model.shared_embeddings={shared}",
            f"model.train_ds.tokens_in_batch={work.tokens_in_batch}",
            f"+exp_manager.explicit_log_dir={folder}/student", MONITOR, *checkpoints(work.steps),
        ),
        "MB of labels": size(folder / "labels"),
        "MB of the cache": size(folder / "cache"),
        "MB of checkpoints": size(folder / "student" / "checkpoints"),
    }  # fmt: skip
    (student,) = (folder / "student").rglob("*.nemo")
    for name, model in (("teacher", work.teacher), ("student", student)):
        run("export", f"model={model}", f"output={folder}/{name}_ct2", "quantization=int8")
        found[f"MB of the {name} in int8"] = size(folder / f"{name}_ct2")
    timed = time_exports([folder / "teacher_ct2", folder / "student_ct2"], work.source)
    for name, one in zip(("teacher", "student"), timed):
        found[f"sentences/s of the {name}"] = one.sentences_per_second
        found[f"ms alone of the {name}"] = one.latency_ms_median
    both = (found[f"sentences/s of the {name}"] for name in ("student", "teacher"))
    found["student's speed over the teacher's"] = next(both) / next(both)
    return found


def checkpoints(steps: int) -> list[str]:
    """Returns the keys that save a checkpoint after each quarter of the steps, as validations do elsewhere."""
    callback = "+exp_manager.checkpoint_callback_params"
    return [f"{callback}.every_n_train_steps={steps // 4}", f"{callback}.every_n_epochs=null"]


def time_exports(folders: Sequence[Path], source: Path) -> list[Any]:
    """Returns the speeds of exports, as an evaluation measures them."""
    from nemo_distill.decoding.settings import SearchSettings
    from nemo_distill.evaluation.speed import SpeedSettings, measure
    from nemo_distill.evaluation.systems import System

    systems = [System(folder.name, folder, "ctranslate2") for folder in folders]
    lines = source.read_text(encoding="utf-8").split("\n")[:200]
    threads = int(os.environ["OMP_NUM_THREADS"])
    return measure(systems, lines, SpeedSettings(), SearchSettings(length_penalty=0.0), "cpu", threads)


def print_frontier(folder: Path, quick: bool) -> None:
    """Prints all named students beside a teacher that is only a config and a tokenizer of random words."""
    import yaml
    from kd_step import QUICK, Sizes, compose_config, write_data
    from omegaconf import OmegaConf

    sizes = QUICK if quick else Sizes()
    write_data(folder, sizes)
    cfg = compose_config("aayn_base_distill", folder, sizes, sizes.teacher_layers, sizes.teacher_width)
    config = OmegaConf.to_container(cfg.model)
    for key in ("train_ds", "optim", "distillation"):
        del config[key]
    for side in ("encoder", "decoder"):
        config[f"{side}_tokenizer"]["tokenizer_model"] = "nemo:tokenizer.model"
    config["target"] = "nemo.collections.nlp.models.machine_translation.mt_enc_dec_model.MTEncDecModel"
    (folder / "model_config.yaml").write_text(yaml.safe_dump(config))
    with tarfile.open(folder / "shape.nemo", "w") as archive:
        for name in ("model_config.yaml", "tokenizer.model"):
            archive.add(folder / name, name)
    keys = [f"teacher={folder}/shape.nemo", f"output_dir={folder}/sizes", "shared_embeddings=true"]
    for beam_size in (4, 1):  # of the students
        run("size", *keys, f"speed.student_beam_size={beam_size}")
        print(f"- teacher at beam 4, students at beam {beam_size}\n")
        print((folder / "sizes" / "sizes.md").read_text())


def size(folder: Path) -> float:
    """Returns the MB of the files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--frontier", action="store_true", help="only sizes and speeds of all students")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--teacher", help="a trained .nemo; needs --source and --target")
    parser.add_argument("--source", help="text, one sentence a line")
    parser.add_argument("--target", help="its translations")
    parser.add_argument("--student", default="slim_3x3", help="a name in conf/student/")
    parser.add_argument("--steps", type=int, help="of the student's training")
    arguments = parser.parse_args()
    if arguments.teacher and not (arguments.source and arguments.target):
        parser.error("--teacher needs --source and --target")
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    sentences, teacher_steps, steps, seconds = (2000, 60, 40, 10.0) if arguments.quick else (20_000, 1000, 400, 60.0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.frontier:
            print_frontier(folder, arguments.quick)
            return
        given = Path(arguments.teacher or ""), Path(arguments.source or ""), Path(arguments.target or "")
        paths = given if arguments.teacher else generated(folder, sentences, teacher_steps)
        work = Work(folder, *paths, arguments.student, arguments.steps or steps, 4000, seconds)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", START], check=True, stdout=sys.stderr)
        start = time.perf_counter() - began
        expected, seen = predicted(work), done(work)
    expected |= {name: value + start for name, value in expected.items() if name.startswith("seconds of")}
    print("| | predicted | seen | ratio |\n| --- | ---: | ---: | ---: |")
    for name, value in seen.items():
        print(f"| {name} | {expected[name]:.4g} | {value:.4g} | {expected[name] / value:.2f} |")
    wrong = {name: max(expected[name] / value, value / expected[name]) for name, value in seen.items()}
    print_verdict(wrong, dict.fromkeys(wrong, ("at most", MOST_WRONG)), arguments.quick)
    print(json.dumps(wrong))


if __name__ == "__main__":
    main()
