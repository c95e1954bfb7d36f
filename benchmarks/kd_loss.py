"""What a word-level distillation loss and its gradients cost, ours and others', side by side in one run.

    python benchmarks/kd_loss.py            # 4,096 tokens of 32,000 words, widths 512 and 1,024: some minutes
    python benchmarks/kd_loss.py --quick    # 1,024 tokens, in under a minute

Every form gets the same hidden states and output matrices, and gives T² KL(teacher ‖ student) and the gradients of the
student's states, matrix and bias. Each runs in a process of its own; a form whose library is not installed is named as
missing. Memory is the highest above what the inputs take. The floor is the four matrix products alone, which no exact
form can do without. The last line is a JSON object; its `max_gradient_difference` is the largest difference from the
usual form's gradients, over the largest of them.
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

from aims import print_aims

TEMPERATURE = 2.0
ROUNDS = 3  # in which every form has its turn, so that what else the machine does hits none alone; the best counts
FLOOR, USUAL, OURS = "matrix products alone", "usual form", "nemo_distill, fused"
AIMS = {
    "time_over_floor": ("at most", 1.4),
    "memory_over_plain": ("at most", 0.1),
    "speedup_over_plain": ("at least", 1.7),
    "max_gradient_difference": ("at most", 1e-5),
}


@dataclass(frozen=True)
class Sizes:
    """Of a batch and the two models' last layers."""

    tokens: int = 4096
    words: int = 32_000
    student: int = 512
    teacher: int = 1024


class Batch:
    """Hidden states and output layers of both models, of random numbers."""

    def __init__(self, sizes: Sizes, device: str):
        import torch

        generator = torch.Generator().manual_seed(0)

        def random(*shape, scale=1.0):
            return torch.randn(shape, generator=generator).mul_(scale).to(device)

        self.sizes = sizes
        self.states, self.teacher_states = random(sizes.tokens, sizes.student), random(sizes.tokens, sizes.teacher)
        self.weight = random(sizes.words, sizes.student, scale=2 * sizes.student**-0.5)
        self.teacher_weight = random(sizes.words, sizes.teacher, scale=2 * sizes.teacher**-0.5)
        self.bias, self.teacher_bias = random(sizes.words), random(sizes.words)
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


def matrix_products(batch: Batch) -> None:
    """Both models' logits, and what a gradient of the logits means for the student's states and matrix."""
    import torch

    with torch.no_grad():
        logits = batch.states @ batch.weight.t()
        torch.mm(batch.teacher_states, batch.teacher_weight.t(), out=logits)
        return logits @ batch.weight, logits.t() @ batch.states


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


def measure(name: str, sizes: Sizes, repeats: int, device: str, gradients: Path) -> dict[str, float]:
    """Runs one form in this process: the seconds of its fastest run and the memory of its first; keeps gradients."""
    import torch

    batch, form, seconds, memory = Batch(sizes, device), FORMS[name], [], 0
    form(Batch(Sizes(8, 16, 4, 4), device))  # imports and starts what there is to start
    for _ in range(repeats):
        for tensor in batch.trained:
            tensor.grad = None
        peak, started = PeakMemory(device), time.perf_counter()
        result = form(batch)
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


def measure_apart(name: str, arguments: argparse.Namespace, gradients: Path) -> dict[str, float] | None:
    """Lets a process of its own measure a form; None where the form's library is not installed."""
    command = [sys.executable, __file__, "--form", name, "--gradients", str(gradients), *sys.argv[1:]]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode == 0:
        return json.loads(result.stdout.splitlines()[-1])
    if "ModuleNotFoundError" in result.stderr:
        return None
    raise RuntimeError(f"{name} failed:\n{result.stderr}")


def largest_difference(found: Path, expected: Path) -> float:
    """Returns the largest difference of two forms' gradients, of each tensor over its largest."""
    import torch

    pairs = zip(torch.load(found), torch.load(expected))
    return max(((ours - theirs).abs().max() / theirs.abs().max()).item() for ours, theirs in pairs)


def compare(arguments: argparse.Namespace) -> dict[str, float]:
    """Measures all forms, prints a table and returns our ratios."""
    costs, differences = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{index}.pt" for index, name in enumerate(FORMS)}
        for name in [*FORMS] * (1 if arguments.quick else ROUNDS):
            cost = measure_apart(name, arguments, files[name])
            if name in costs and cost:
                cost = {key: min(value, costs[name][key]) for key, value in cost.items()}
            costs[name] = cost
            if cost and name != FLOOR:
                differences[name] = largest_difference(files[name], files[USUAL])
    floor, usual, ours = (costs[name] for name in (FLOOR, USUAL, OURS))
    print("| form | seconds | over the floor | memory, MB | gradient difference |\n" + "| --- " * 5 + "|")
    for name, cost in costs.items():
        if cost is None:
            print(f"| {name} | not installed | | | |")
            continue
        over, difference = cost["seconds"] / floor["seconds"], differences.get(name)
        told = "" if difference is None else f"{difference:.1e}"
        print(f"| {name} | {cost['seconds']:.2f} | {over:.2f} | {cost['bytes'] / 1e6:.0f} | {told} |")
    return {
        "time_over_floor": round(ours["seconds"] / floor["seconds"], 3),
        "memory_over_plain": round(ours["bytes"] / usual["bytes"], 3),
        "speedup_over_plain": round(usual["seconds"] / ours["seconds"], 3),
        "max_gradient_difference": differences[OURS],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,024 tokens")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--form", choices=FORMS, help="measure this one alone, in this process")
    parser.add_argument("--gradients", type=Path, default=Path(os.devnull), help="where --form leaves its gradients")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    if not arguments.form:
        ratios = compare(arguments)
        if not arguments.quick:
            print_aims(ratios, AIMS)
        print(json.dumps(ratios))
        return
    import torch

    torch.set_num_threads(arguments.threads)
    sizes = Sizes(tokens=1024) if arguments.quick else Sizes()
    print(json.dumps(measure(arguments.form, sizes, 2, arguments.device, arguments.gradients)))


if __name__ == "__main__":
    main()
