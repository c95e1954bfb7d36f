"""Where the time of a distillation step goes, with the losses fused and in the usual form.

    python benchmarks/kd_profile.py            # teacher 6x6 of width 512, student 3x3 of 256, 32,000 words: a minute
    python benchmarks/kd_profile.py --quick    # a smaller batch, in seconds

Both models are NeMo's modules with random weights; the objective is KL and the student's own loss, half each. The last
line is a JSON object of seconds.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from decode import PAD, Shape, build_model, print_table

TEACHER = Shape(width=512, inner=2048, heads=8, vocabulary=32_000, sentences=32, source=24, target=24)
STUDENT = replace(TEACHER, encoder_layers=3, decoder_layers=3, width=256, inner=1024, heads=4)


def projection_of(model: Any, hidden_states: Any) -> Any:
    from nemo_distill.losses.projection import Projection

    layer = model.log_softmax.mlp.layer0
    return Projection(hidden_states, layer.weight, layer.bias)


def fused_form(student: Any, teacher: Any, hidden_states: Any, teacher_hidden_states: Any, labels: Any) -> Any:
    """The default."""
    import torch

    from nemo_distill.losses import KLDivergenceLoss
    from nemo_distill.losses.closed_forms import SmoothedLabels
    from nemo_distill.losses.fused import fused_losses

    weights = [0.5, 0.5]
    projections = projection_of(student, hidden_states), projection_of(teacher, teacher_hidden_states)
    values = fused_losses(*projections, labels != PAD, [KLDivergenceLoss()], weights, labels=SmoothedLabels(labels))
    return (values * torch.tensor(weights)).sum()


def usual_form(student: Any, teacher: Any, hidden_states: Any, teacher_hidden_states: Any, labels: Any) -> Any:
    """NeMo's heads, their log-probabilities and two losses; `distillation.fused: false`."""
    import torch

    from nemo_distill.losses import KLDivergenceLoss
    from nemo_distill.losses.reduction import masked_mean

    with torch.no_grad():
        teacher_log_probs = teacher.log_softmax(hidden_states=teacher_hidden_states)
    log_probs = student.log_softmax(hidden_states=hidden_states)
    nll = -log_probs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    mask = labels != PAD
    return 0.5 * KLDivergenceLoss()(log_probs, teacher_log_probs, mask) + 0.5 * masked_mean(nll, mask)


class Stopwatch:
    """Seconds by name; each is added to."""

    def __init__(self):
        self.seconds = {}

    def time(self, name: str, function: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = function()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        return result


def run(form: Callable, shapes: tuple[Shape, Shape], steps: int) -> dict[str, float]:
    """Returns the seconds that each part of a step takes, on average over all but the first."""
    import torch

    teacher, student = (build_model(shape) for shape in shapes)
    modules = [module.requires_grad_() for module in (student.encoder, student.decoder, student.log_softmax)]
    optimizer = torch.optim.Adam([parameter for module in modules for parameter in module.parameters()])
    shape = shapes[0]
    src_ids, labels = (torch.randint(4, shape.vocabulary, (shape.sentences, n)) for n in (shape.source, shape.target))

    def encode(model):
        return model.encoder(input_ids=src_ids, encoder_mask=src_ids != PAD)

    def decode(model, states):
        masks = {"decoder_mask": labels != PAD, "encoder_mask": src_ids != PAD}
        return model.decoder(input_ids=labels, encoder_embeddings=states, **masks)

    for step in range(steps + 1):
        if step < 2:
            watch = Stopwatch()  # the first step warms up
        with torch.no_grad():
            states = watch.time("teacher's encoder", lambda: encode(teacher))
            theirs = watch.time("teacher's decoder", partial(decode, teacher, states))
        ours = watch.time("student", lambda: decode(student, encode(student)))
        cut = ours.detach().requires_grad_()
        loss = watch.time("losses", partial(form, student, teacher, cut, theirs, labels))
        watch.time("losses' backward pass", loss.backward)
        watch.time("student's backward pass", partial(ours.backward, cut.grad))
        watch.time("optimizer", lambda: (optimizer.step(), optimizer.zero_grad()))
    return {name: seconds / steps for name, seconds in watch.seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="eight sentences, three steps")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)

    from nemo_distill.console import set_up_console

    set_up_console()
    import torch

    torch.set_num_threads(arguments.threads)
    sentences, steps = (8, 3) if arguments.quick else (64, 5)
    shapes = replace(TEACHER, sentences=sentences), replace(STUDENT, sentences=sentences)
    fused, usual = (run(form, shapes, steps) for form in (fused_form, usual_form))
    totals = {name: sum(seconds.values()) for name, seconds in (("fused", fused), ("usual", usual))}
    rows = [
        (part, f"{fused[part]:.3f}", f"{fused[part] / totals['fused']:.0%}", f"{usual[part]:.3f}") for part in fused
    ]
    total = ("all", f"{totals['fused']:.3f}", "100%", f"{totals['usual']:.3f}")
    print_table(("part of a step", "seconds, fused", "share", "seconds, usual form"), [*rows, total])
    print(json.dumps({"fused": fused, "usual": usual}))


if __name__ == "__main__":
    main()
