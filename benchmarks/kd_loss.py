"""What a word-level distillation loss and its gradients cost, ours and others', side by side in one run.

    python benchmarks/kd_loss.py            # 4,096 tokens of 32,000 words, widths 512 and 1,024: some minutes
    python benchmarks/kd_loss.py --quick    # 1,024 tokens, in some minutes too; gives no verdict

Every form gets the same hidden states and output matrices, and gives T² KL(teacher ‖ student) and the gradients of the
student's states, matrix and bias. Each runs in a process of its own; `pip install 'nemo_distill[bench]'` installs the
libraries of all forms. Memory is the highest above what the inputs take. The floor is the four matrix products alone,
in the same precision, which no exact form can do without.

In bfloat16, a form runs under autocast, as with trainer.precision=bf16-mixed, and the teacher's tensors are bfloat16.

The last line is a JSON object. Its `max_gradient_difference` is the largest difference from the usual form's
gradients, over the largest of them, in float32. `bfloat16_gradient_cosine` is the least cosine of a gradient with the
usual form's in float32.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aims import print_verdict

TEMPERATURE = 2.0
ROUNDS = 3  # in which every form has its turn, so that what else the machine does hits none alone; the best counts
FLOOR, USUAL, OURS = "matrix products alone", "usual form", "nemo_distill, fused"
AIMS = {
    "time_over_floor": ("at most", 1.4),
    "memory_over_plain": ("at most", 0.1),
    "speedup_over_plain": ("at least", 1.7),
    "max_gradient_difference": ("at most", 1e-5),
    "bfloat16_time_over_floor": ("at most", 1.4),
    "bfloat16_speedup_over_float32_plain": ("at least", 2.5),
    "bfloat16_gradient_cosine": ("at least", 0.999),
}
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Sizes:
    """Of a batch and the two models' last layers."""

    tokens: int = 4096
    words: int = 32_000
    student: int = 512
    teacher: int = 1024


class Batch:
    """Hidden states and output layers of both models, of random numbers; the teacher's in a precision of their own."""

    def __init__(self, sizes: Sizes, device: str, precision: str = "float32"):
        import torch

        generator = torch.Generator().manual_seed(0)

        def random(*shape, scale=1.0):
            return torch.randn(shape, generator=generator).mul_(scale).to(device)

        self.sizes = sizes
        self.states, self.teacher_states = random(sizes.tokens, sizes.student), random(sizes.tokens, sizes.teacher)
        self.weight = random(sizes.words, sizes.student, scale=2 * sizes.student**-0.5)
        self.teacher_weight = random(sizes.words, sizes.teacher, scale=2 * sizes.teacher**-0.5)
        self.bias, self.teacher_bias = random(sizes.words), random(sizes.words)
        self.dtype = getattr(torch, precision)
        for name in ("teacher_states", "teacher_weight", "teacher_bias"):
            setattr(self, name, getattr(self, name).to(self.dtype))
        self.trained = [self.states, self.weight, self.bias]
        for tensor in self.trained:
            tensor.requires_grad_()

    def logits(self):
        """Returns the student's and the teacher's (N, V)."""
        import torch
        import torch.nn.functional as F

        with torch.no_grad():
            teacher = F.linear(self.teacher_states, self.teacher_weight, self.teacher_bias)
        return F.linear(self.states, self.weight, self.bias), teacher


def matrix_products(batch: Batch) -> Any:
    """Both models' logits, and what a gradient of the logits means for the student's states and matrix."""
    import torch

    with torch.no_grad():
        states, weight = batch.states.to(batch.dtype), batch.weight.to(batch.dtype)
        logits = states @ weight.t()
        torch.mm(batch.teacher_states, batch.teacher_weight.t(), out=logits)
        return logits @ weight, logits.t() @ states


def usual_form(batch: Batch) -> Any:
    """Two log-softmaxes and a divergence, as papers' code has it."""
    import torch.nn.functional as F

    student, teacher = (F.log_softmax(logits / TEMPERATURE, dim=-1) for logits in batch.logits())
    return TEMPERATURE**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def nemo_head(batch: Batch) -> Any:
    """NeMo's head, whose log-probabilities must be tempered by another softmax, and torch's KLDivLoss."""
    import torch
    from nemo.collections.common.parts import MultiLayerPerceptron

    def log_probs(states, weight, bias):
        with torch.device("meta"):
            head = MultiLayerPerceptron(*weight.t().shape, num_layers=1)
        parameters = {"layer0.weight": weight, "layer0.bias": bias}
        return torch.log_softmax(torch.func.functional_call(head, parameters, states) / TEMPERATURE, dim=-1)

    with torch.no_grad():
        teacher = log_probs(batch.teacher_states, batch.teacher_weight, batch.teacher_bias)
    student = log_probs(batch.states, batch.weight, batch.bias)
    return TEMPERATURE**2 * torch.nn.KLDivLoss(reduction="batchmean", log_target=True)(student, teacher)


def torchtune_chunked(batch: Batch) -> Any:
    """torchtune's KL over eight chunks of logits; all chunks exist at a time. It leaves out the teacher's entropy."""
    import torch
    from torchtune.modules.loss import ForwardKLWithChunkedOutputLoss

    # As one sentence, since it wants (B, T, V).
    student, teacher = ([chunk[None] / TEMPERATURE for chunk in logits.chunk(8)] for logits in batch.logits())
    labels = torch.zeros(1, batch.sizes.tokens, dtype=torch.long, device=batch.states.device)
    return TEMPERATURE**2 * ForwardKLWithChunkedOutputLoss(num_output_chunks=8)(student, teacher, labels)


def liger_chunked(batch: Batch) -> Any:
    """Liger's chunked base class with KL in it; it multiplies by no T²."""
    import torch
    import torch.nn.functional as F
    from liger_kernel.chunked_loss.fused_linear_distillation import LigerFusedLinearDistillationBase

    class ForwardKL(LigerFusedLinearDistillationBase):
        @staticmethod
        def distillation_loss_fn(student_logits, teacher_logits, **kwargs):
            log_probs = [F.log_softmax(logits, dim=-1) for logits in (student_logits, teacher_logits)]
            return F.kl_div(*log_probs, reduction="sum", log_target=True)

        @classmethod
        def forward(cls, ctx, *tensors):
            soft_alone = {"weight_hard_loss": 0.0, "weight_soft_loss": 1.0, "compute_ce_loss": False}
            return super().forward(cls, ctx, *tensors, **soft_alone, temperature=TEMPERATURE, compiled=False)

        @staticmethod
        def backward(ctx, upstream):
            return (*LigerFusedLinearDistillationBase.backward(ctx, upstream)[:6], None)  # the teacher's bias

    labels = torch.zeros(batch.sizes.tokens, dtype=torch.long, device=batch.states.device)
    teacher = (batch.teacher_states, batch.teacher_weight)
    return TEMPERATURE**2 * ForwardKL.apply(
        batch.states, batch.weight, *teacher, labels, batch.bias, batch.teacher_bias
    )


def fused(batch: Batch) -> Any:
    """Ours, as `distillation.fused: true` has it."""
    from nemo_distill.losses import KLDivergenceLoss
    from nemo_distill.losses.fused import fused_losses
    from nemo_distill.losses.projection import Projection

    student = Projection(batch.states, batch.weight, batch.bias)
    teacher = Projection(batch.teacher_states, batch.teacher_weight, batch.teacher_bias)
    return fused_losses(student, teacher, None, [KLDivergenceLoss()], [1.0], TEMPERATURE).sum()


FORMS: dict[str, Callable[[Batch], Any]] = {
    FLOOR: matrix_products,
    USUAL: usual_form,
    "NeMo's head and KLDivLoss": nemo_head,
    "torchtune, chunked": torchtune_chunked,
    "Liger, chunked": liger_chunked,
    OURS: fused,
}


class PeakMemory:
    """The highest memory in use since it was made, above that which was in use then, in bytes."""

    def __init__(self, device: str):
        import torch

        self.on_gpu = device == "cuda"
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the highest so far
        self.before = torch.cuda.memory_allocated() if self.on_gpu else self._of_process("VmRSS")

    def above_start(self) -> int:
        """Returns it."""
        import torch

        return (torch.cuda.max_memory_allocated() if self.on_gpu else self._of_process("VmHWM")) - self.before

    @staticmethod
    def _of_process(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def in_precision(name: str, batch: Batch, device: str) -> Any:
    """Runs a form as training in the precision of the batch does."""
    import torch

    with torch.autocast(device, torch.bfloat16, enabled=batch.dtype == torch.bfloat16):
        return FORMS[name](batch)


def measure(name: str, precision: str, sizes: Sizes, repeats: int, device: str, gradients: Path) -> dict[str, float]:
    """Runs one form in this process: the seconds of its fastest run and the memory of its first; keeps gradients."""
    import torch

    batch, seconds, memory = Batch(sizes, device, precision), [], 0
    # Imports and starts what there is to start.
    in_precision(name, Batch(Sizes(8, 16, 8, 8), device, precision), device)
    for _ in range(repeats):
        for tensor in batch.trained:
            tensor.grad = None
        peak, started = PeakMemory(device), time.perf_counter()
        result = in_precision(name, batch, device)
        if name != FLOOR:
            result.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        memory = memory or peak.above_start()
        del result
    if name != FLOOR:
        torch.save([tensor.grad.cpu() for tensor in batch.trained], gradients)
    return {"seconds": min(seconds), "bytes": memory}


def measure_apart(name: str, precision: str, gradients: Path) -> dict[str, float] | None:
    """Lets a process of its own measure a form; None where the form's library is not installed."""
    alone = ["--form", name, "--precision", precision, "--gradients", str(gradients)]
    command = [sys.executable, __file__, *alone, *sys.argv[1:]]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode == 0:
        return json.loads(result.stdout.splitlines()[-1])
    if "ModuleNotFoundError" in result.stderr:
        return None
    raise RuntimeError(f"{name} in {precision} failed:\n{result.stderr}")


def largest_difference(found: Path, expected: Path) -> float:
    """Returns the largest difference of two forms' gradients, of each tensor over its largest."""
    import torch

    pairs = zip(torch.load(found), torch.load(expected))
    return max(((ours - theirs).abs().max() / theirs.abs().max()).item() for ours, theirs in pairs)


def least_cosine(found: Path, expected: Path) -> float:
    """Returns the least cosine of two forms' gradients of a tensor."""
    import torch

    pairs = zip(torch.load(found), torch.load(expected))
    return min(torch.cosine_similarity(*(tensor.double().flatten() for tensor in pair), 0).item() for pair in pairs)


def compare(arguments: argparse.Namespace) -> dict[str, float]:
    """Measures all forms in both precisions, prints a table and returns our ratios."""
    costs: dict[tuple[str, str], dict[str, float] | None] = {}
    every = [(precision, name) for precision in PRECISIONS for name in FORMS]
    with tempfile.TemporaryDirectory() as folder:
        files = {one: Path(folder) / f"{index}.pt" for index, one in enumerate(every)}
        for one in every * (1 if arguments.quick else ROUNDS):
            precision, name = one
            cost = measure_apart(name, precision, files[one])
            if cost and (before := costs.get(one)):
                cost = {key: min(value, before[key]) for key, value in cost.items()}
            costs[one] = cost
        exact = files["float32", USUAL]
        graded = {one: file for one, file in files.items() if costs[one] and one[1] != FLOOR}
        differences = {one: largest_difference(file, exact) for one, file in graded.items() if one[0] == "float32"}
        cosines = {one: least_cosine(file, exact) for one, file in graded.items() if one[0] == "bfloat16"}
    told = {one: f"{value:.1e}" for one, value in differences.items()}
    print_table(costs, told | {one: f"{value:.5f}" for one, value in cosines.items()})
    return ratios(costs) | {
        "max_gradient_difference": differences["float32", OURS],
        "bfloat16_gradient_cosine": cosines["bfloat16", OURS],
    }


def print_table(costs: dict[tuple[str, str], Any], gradients: dict[tuple[str, str], str]) -> None:
    """Prints a row a form, with the columns of each precision after another."""
    parts = {"float32": "gradient difference", "bfloat16": "gradient cosine"}
    heads = [f"{one}: seconds | over the floor | memory, MB | {gradient}" for one, gradient in parts.items()]
    print(f"| form | {' | '.join(heads)} |\n" + "| --- " * 9 + "|")
    for name in FORMS:
        row = [_cells(costs, gradients, precision, name) for precision in PRECISIONS]
        print(f"| {name} | {' | '.join(row)} |")


def _cells(costs: dict[tuple[str, str], Any], gradients: dict[tuple[str, str], str], precision: str, name: str) -> str:
    if (cost := costs[precision, name]) is None:
        return "not installed | | | "
    over = cost["seconds"] / costs[precision, FLOOR]["seconds"]
    return f"{cost['seconds']:.2f} | {over:.2f} | {cost['bytes'] / 1e6:.0f} | {gradients.get((precision, name), '')}"


def ratios(costs: dict[tuple[str, str], Any]) -> dict[str, float]:
    """Returns our form's time and memory against the others'."""

    def seconds(precision: str, name: str) -> float:
        return costs[precision, name]["seconds"]

    usual, ours = (costs["float32", name] for name in (USUAL, OURS))
    found = {
        "time_over_floor": ours["seconds"] / seconds("float32", FLOOR),
        "memory_over_plain": ours["bytes"] / usual["bytes"],
        "speedup_over_plain": usual["seconds"] / ours["seconds"],
        "bfloat16_time_over_floor": seconds("bfloat16", OURS) / seconds("bfloat16", FLOOR),
        "bfloat16_speedup_over_float32_plain": usual["seconds"] / seconds("bfloat16", OURS),
    }
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,024 tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--form", choices=FORMS, help="measure this one alone, in this process")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of --form")
    parser.add_argument("--gradients", type=Path, default=Path(os.devnull), help="where --form leaves its gradients")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    if not arguments.form:
        found = compare(arguments)
        print_verdict(found, AIMS, arguments.quick)
        print(json.dumps(found))
        return
    import torch

    torch.set_num_threads(arguments.threads)
    sizes = Sizes(tokens=1024) if arguments.quick else Sizes()
    cost = measure(arguments.form, arguments.precision, sizes, 2, arguments.device, arguments.gradients)
    print(json.dumps(cost))


if __name__ == "__main__":
    main()
