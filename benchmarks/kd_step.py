"""What a training step costs: the student's own, from a teacher that runs along, and from a teacher cache.

    python benchmarks/kd_step.py            # teacher 24x6 of width 1024, student 6x6 of 512, 32,000 words: minutes
    python benchmarks/kd_step.py --quick    # smaller ones, in some minutes; gives no verdict
    python benchmarks/kd_step.py --replaced # on the student's own translations, and TIE-KD's, beside the online one

A step is the forward and the backward pass of one batch with random weights; the loss is word-level KL. The first step
is the student's own NLL as NeMo computes it, the second one the same in the fused pass, as in nemo-distill train.
"plain" has whole log-probabilities, as with model.distillation.fused=false; the other distillation steps are fused, as
by default. The least of several rounds counts. In bfloat16, a step runs as with trainer.precision=bf16-mixed and
teacher_precision=bfloat16.

The last line is a JSON object: the times of the fused NLL step and of the cached step over the NLL step's of the same
precision, the online step's in bfloat16 over the NLL step's in float32, and in float32 how many times as fast as the
plain online step the cached and the fused online step are. With --replaced, it is each step's time over the online
step's of the same precision. There the own translations are as long as the references, because a student with random
weights would not end; making them is part of the step.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aims import print_verdict

AIMS = {
    "cached_over_nll": ("at most", 1.1),
    "cached_speedup_over_plain": ("at least", 3.0),
    "bfloat16_cached_over_nll": ("at most", 1.1),
    "bfloat16_online_over_float32_nll": ("at most", 1.15),
}
PRECISIONS = ("float32", "bfloat16")
NLL, FUSED_NLL, PLAIN, ONLINE, CACHED = "NLL", "NLL, fused", "online, usual form", "online, fused", "from the cache"
OWN = "++model.distillation.on_policy={share: 1.0, method: %s, max_delta: 0}"
REPLACED = {
    "own translations, greedy": [OWN % "greedy"],
    "own translations, sampled": [OWN % "sampled"],
    "TIE-KD's three passes": ["model.distillation.iterations=3"],
}
CONF = Path(__file__).parent.parent / "examples" / "nlp" / "machine_translation" / "conf"


@dataclass(frozen=True)
class Sizes:
    """Layers are those of encoder and decoder; a batch has `sentences` pairs of `words` words."""

    teacher_layers: tuple[int, int] = (24, 6)
    teacher_width: int = 1024
    student_layers: tuple[int, int] = (6, 6)
    student_width: int = 512
    vocabulary: int = 32000
    sentences: int = 32
    words: int = 24
    k: int = 64
    rounds: int = 3


QUICK = Sizes((12, 3), 256, (3, 3), 128, vocabulary=8000, sentences=16)


def write_data(folder: Path, sizes: Sizes) -> None:
    """Writes a tokenizer of as many words as the vocabulary has, and one batch of random pairs of them."""
    import sentencepiece

    words = [f"w{number}" for number in range(sizes.vocabulary)]
    text = folder / "words.txt"
    text.write_text("".join(f"{' '.join(words[start : start + 100])}\n" for start in range(0, len(words), 100)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "tokenizer"), vocab_size=sizes.vocabulary, model_type="word",
        pad_id=3, minloglevel=2,
    )  # fmt: skip
    generator = random.Random(0)
    for language in ("src", "tgt"):
        lines = [" ".join(generator.choices(words, k=sizes.words)) for _ in range(sizes.sentences)]
        (folder / f"train.{language}").write_text("".join(f"{line}\n" for line in lines))


def compose_config(config: str, folder: Path, sizes: Sizes, layers: tuple[int, int], width: int, *more: str) -> Any:
    """Returns a job's config with a model of some size."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    tokens = sizes.sentences * (2 * sizes.words + 4)
    overrides = [
        "distillation=word_level_kl", f"model.train_ds.src_file_name={folder}/train.src",
        f"model.train_ds.tgt_file_name={folder}/train.tgt",
        f"model.train_ds.tokens_in_batch={tokens}", "model.train_ds.num_workers=0", "~model.validation_ds",
        "~model.test_ds", "model.src_language=ignore", "model.tgt_language=ignore", "model.label_smoothing=0.0",
        f"model.distillation.model_path={folder}/teacher.nemo", *more,
    ]  # fmt: skip
    for side, count in zip(("encoder", "decoder"), layers):
        overrides += [
            f"model.{side}.num_layers={count}", f"model.{side}.hidden_size={width}",
            f"model.{side}.inner_size={4 * width}", f"model.{side}.num_attention_heads={width // 64}",
            f"model.{side}_tokenizer.tokenizer_model={folder}/tokenizer.model",
        ]  # fmt: skip
    with initialize_config_dir(str(CONF.absolute()), version_base=None):
        cfg = compose(config, overrides)
    OmegaConf.set_struct(cfg, False)
    return cfg


def save_teacher(folder: Path, sizes: Sizes) -> None:
    """Writes the teacher's `.nemo`, with random weights."""
    from nemo_distill import DistillableMTEncDecModel

    model = compose_config("aayn_base_distill", folder, sizes, sizes.teacher_layers, sizes.teacher_width).model
    for section in ("distillation", "train_ds", "optim"):
        model.pop(section)
    DistillableMTEncDecModel(model).save_to(str(folder / "teacher.nemo"))


def build_cache(folder: Path, sizes: Sizes, device: str) -> float:
    """Builds the teacher cache twice; returns the seconds of the second time, without loading the teacher."""
    from nemo_distill.commands.cache_teacher import caching_job
    from nemo_distill.teacher_cache.build import build

    jobs = []
    for name in ("warm_up", "cache"):
        options = [f"model.distillation.teacher_cache={folder / name}", f"cache.k={sizes.k}"]
        cfg = compose_config("cache_teacher", folder, sizes, sizes.teacher_layers, sizes.teacher_width, *options)
        jobs.append(caching_job(cfg))
    teacher = jobs[0].load_teacher(device)
    for job in jobs:
        start = time.perf_counter()
        build(job.folder, job.settings, lambda: teacher)
    return time.perf_counter() - start


def distillation(
    folder: Path,
    sizes: Sizes,
    device: str,
    precision: str,
    cached: bool = False,
    fused: bool = True,
    more: Sequence[str] = (),
) -> Callable[[], Any]:
    """Returns a step of word-level distillation, from the teacher or from the cache.

    Args:
        more: overrides of the configuration.
    """
    from nemo_distill import DistillableMTEncDecModel, DistillationModelPT

    cfg = compose_config("aayn_base_distill", folder, sizes, sizes.student_layers, sizes.student_width, *more).model
    cfg.distillation.fused = fused
    if cached:
        cfg.distillation.update({"model_path": None, "teacher_cache": f"{folder}/cache"})
    else:
        cfg.distillation.teacher_precision = precision
    model = DistillationModelPT(cfg, model_class=DistillableMTEncDecModel).to(device).train()
    model.student.log_through(SimpleNamespace(log=lambda *args: None))
    batch = first_batch(model, device)

    def step():
        model.zero_grad()
        with autocast(device, precision):
            read, terms, _ = model.step_inputs(batch, step=0)
            return model.distillation_losses(read, 0, terms)["primary"]

    return step


def own_training(folder: Path, sizes: Sizes, device: str, precision: str, fused: bool = False) -> Callable[[], Any]:
    """Returns a step of the student alone, fused as in a training, or as NeMo computes it."""
    import torch
    from nemo.collections.nlp.models.machine_translation.mt_enc_dec_model import MTEncDecModel

    from nemo_distill import DistillableMTEncDecModel

    cfg = compose_config("aayn_base_distill", folder, sizes, sizes.student_layers, sizes.student_width).model
    cfg.pop("distillation")
    model = DistillableMTEncDecModel(cfg).to(device).train()
    model._optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # whose learning rate a step logs
    batch = first_batch(model, device)

    def step():
        model.zero_grad()
        with autocast(device, precision):
            return (model.training_step(batch, 0) if fused else MTEncDecModel.training_step(model, batch, 0))["loss"]

    return step


def autocast(device: str, precision: str) -> Any:
    """Returns the context in which Lightning runs a step in this precision."""
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def first_batch(model: Any, device: str) -> list[Any]:
    """Returns a batch of the training data as a loader of NeMo's gives it."""
    return [tensor.to(device) for tensor in next(iter(model.train_dataloader()))]


def least_seconds(steps: Mapping[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, float]:
    """Runs all steps in turn and returns the least time of each; the first round warms up."""
    import torch

    seconds = dict.fromkeys(steps, float("inf"))
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step().backward()
            if device == "cuda":
                torch.cuda.synchronize()
            if number:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def steps_of(folder: Path, sizes: Sizes, device: str, precision: str) -> dict[str, Callable[[], Any]]:
    """Returns the steps by name."""
    options = (folder, sizes, device, precision)
    return {
        NLL: own_training(*options),
        FUSED_NLL: own_training(*options, fused=True),
        PLAIN: distillation(*options, fused=False),
        ONLINE: distillation(*options),
        CACHED: distillation(*options, cached=True),
    }


def replaced_steps(folder: Path, sizes: Sizes, device: str, precision: str) -> dict[str, Callable[[], Any]]:
    """Returns the steps whose targets are replaced, and the online step, by name."""
    options = (folder, sizes, device, precision)
    return {ONLINE: distillation(*options)} | {
        name: distillation(*options, more=more) for name, more in REPLACED.items()
    }


def print_times(exact: Mapping[str, float], half: Mapping[str, float], base: str) -> None:
    """Prints the times of all steps in both precisions, and their ratios to the step `base`."""
    print(f"| step | float32: ms a batch | over its {base} step | bfloat16: ms a batch | over its {base} step |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for step in exact:
        cells = (f"{one[step] * 1000:.0f} | {one[step] / one[base]:.2f}" for one in (exact, half))
        print(f"| {step} | {' | '.join(cells)} |")


def measure_replaced(sizes: Sizes, folder: Path, device: str) -> dict[str, float]:
    """Prints the times of steps whose targets are replaced, and returns their ratios to the online step."""
    exact, half = (
        least_seconds(replaced_steps(folder, sizes, device, precision), sizes.rounds, device)
        for precision in PRECISIONS
    )
    print_times(exact, half, ONLINE)
    return {
        f"{precision}: {step}": one[step] / one[ONLINE]
        for precision, one in zip(PRECISIONS, (exact, half))
        for step in REPLACED
    }


def measure(sizes: Sizes, folder: Path, device: str) -> dict[str, float]:
    """Prints the steps' times and returns their ratios."""
    building = build_cache(folder, sizes, device)
    exact, half = (
        least_seconds(steps_of(folder, sizes, device, precision), sizes.rounds, device) for precision in PRECISIONS
    )
    print_times(exact, half, NLL)
    print(f"| building the cache | {building * 1000:.0f} | {building / exact[NLL]:.2f} | | |")
    saved = exact[ONLINE] - exact[CACHED]
    print(f"\n- The cache pays after {building / saved:.1f} epochs." if saved > 0 else "\n- The cache does not pay.")
    return {
        "fused_nll_over_nll": exact[FUSED_NLL] / exact[NLL],
        "bfloat16_fused_nll_over_nll": half[FUSED_NLL] / half[NLL],
        "cached_over_nll": exact[CACHED] / exact[NLL],
        "cached_speedup_over_plain": exact[PLAIN] / exact[CACHED],
        "fused_speedup_over_plain": exact[PLAIN] / exact[ONLINE],
        "bfloat16_cached_over_nll": half[CACHED] / half[NLL],
        "bfloat16_online_over_float32_nll": half[ONLINE] / exact[NLL],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--replaced", action="store_true")
    arguments = parser.parse_args()
    import torch

    from nemo_distill.console import set_up_console

    set_up_console()
    sizes = QUICK if arguments.quick else Sizes()
    with tempfile.TemporaryDirectory() as name:
        write_data(Path(name), sizes)
        save_teacher(Path(name), sizes)
        job = measure_replaced if arguments.replaced else measure
        ratios = job(sizes, Path(name), "cuda" if torch.cuda.is_available() else "cpu")
    if not arguments.replaced:
        print_verdict(ratios, AIMS, arguments.quick)
    print(json.dumps({name: value and round(value, 3) for name, value in ratios.items()}))


if __name__ == "__main__":
    main()
