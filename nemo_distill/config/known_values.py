"""The allowed values of NeMo's and Lightning's keys. They are used to report errors before the slow imports."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MISSING = "???"


@dataclass(frozen=True)
class Number:
    """A number within limits.

    Args:
        least: minimum, inclusive unless `above`.
        most: exclusive maximum; None: no maximum.
        whole: only whole numbers.
        above: exclude `least`.
        null: allow null.
    """

    least: float | None = None
    most: float | None = None
    whole: bool = False
    above: bool = False
    null: bool = False

    def takes(self, value: Any) -> bool:
        if value is None:
            return self.null
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        if not math.isfinite(value) or (self.most is not None and value >= self.most):
            return False
        return self.least is None or value > self.least or (value == self.least and not self.above)

    def __str__(self) -> str:
        bounds = [] if self.least is None else [f"{'above' if self.above else 'of at least'} {self.least:g}"]
        bounds += [] if self.most is None else [f"below {self.most:g}"]
        kind = "a whole number" if self.whole else "a number"
        return " ".join([*(["null or"] if self.null else []), kind, *([" and ".join(bounds)] if bounds else [])])


@dataclass(frozen=True)
class Word:
    """One of some words."""

    words: tuple[Any, ...]

    def takes(self, value: Any) -> bool:
        return not isinstance(value, (dict, list, bool)) and value in self.words

    def __str__(self) -> str:
        return f"one of {', '.join('null' if word is None else str(word) for word in self.words)}"


COUNT, COUNT_OR_NONE = Number(1, whole=True), Number(1, whole=True, null=True)
LIMIT = Number(-1, whole=True, null=True)  # -1: no limit
SHARE = Number(0, most=1)
OPTIMIZERS = """
adadelta adafactor adagrad adam adamax adamw adan asgd distributed_fused_adam fused_adam lion mcore_distributed_optim
nadam novograd radam rmsprop rprop sgd
""".split()
SCHEDULES = """
CosineAnnealing CosineAnnealingExp CyclicLR ExponentialLR InverseSquareRootAnnealing NoamAnnealing NoamHoldAnnealing
PolynomialDecayAnnealing PolynomialHoldDecayAnnealing ReduceLROnPlateau SquareAnnealing SquareRootAnnealing
SquareRootConstantPolicy StepLR T5InverseSquareRootAnnealing WarmupAnnealing WarmupHoldPolicy WarmupPolicy
""".split()
PRECISIONS = (
    *(64, 32, 16, "64", "32", "16", "bf16", "64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"),
    *("transformer-engine", "transformer-engine-float16", None),
)
DATA = {
    **dict.fromkeys(("tokens_in_batch", "max_seq_length"), COUNT),
    **dict.fromkeys(("num_workers", "min_seq_length", "max_seq_length_diff"), Number(0, whole=True)),
}
STACK = {
    **dict.fromkeys(("hidden_size", "inner_size", "num_layers", "num_attention_heads", "max_sequence_length"), COUNT),
    **dict.fromkeys(("embedding_dropout", "ffn_dropout", "attn_score_dropout", "attn_layer_dropout"), SHARE),
}
VALUES: dict[str, Mapping[str, Number | Word]] = {
    "": {"seed": Number(0, whole=True)},
    "model": {"beam_size": COUNT, "len_pen": Number(0), "label_smoothing": SHARE},
    **{f"model.{section}": DATA for section in ("train_ds", "validation_ds", "test_ds")},
    **{f"model.{side}": STACK for side in ("encoder", "decoder")},
    **{f"model.{side}_tokenizer": {"vocab_size": COUNT_OR_NONE} for side in ("encoder", "decoder")},
    "model.optim": {"lr": Number(0, above=True), "weight_decay": Number(0), "name": Word(tuple(OPTIMIZERS))},
    "model.optim.sched": {
        "name": Word(tuple(SCHEDULES)),
        "warmup_steps": Number(0, whole=True, null=True),
        "warmup_ratio": Number(0, most=1, null=True),
    },
    "trainer": {
        "accelerator": Word(("auto", "cpu", "gpu", "cuda", "mps", "tpu")),
        "precision": Word(PRECISIONS),
        "max_steps": LIMIT,
        "max_epochs": LIMIT,
        "num_nodes": COUNT,
        "accumulate_grad_batches": COUNT,
    },
}


def wrong_values(cfg: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each invalid value in a job's resolved config."""
    return [
        f"{where}={value}: must be {rule}."
        for section, rules in VALUES.items()
        for where, value, rule in _given(cfg, section, rules)
        if value != MISSING and not rule.takes(value)
    ] + _wrong_devices((cfg.get("trainer") or {}).get("devices", 1))


def _given(cfg: Mapping[str, Any], section: str, rules: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in filter(None, section.split(".")):
        cfg = cfg.get(name) or {}
        if not isinstance(cfg, Mapping):
            return
    prefix = f"{section}." if section else ""
    yield from ((f"{prefix}{key}", cfg[key], rule) for key, rule in rules.items() if key in cfg)


def _wrong_devices(devices: Any) -> list[str]:
    """Checks `devices`: a number; -1 or `auto` for all; or a list of numbers, also as text."""
    numbers = devices if isinstance(devices, list) else [devices]
    if isinstance(devices, str):
        numbers = [int(part) if part.strip().lstrip("-").isdigit() else part for part in devices.split(",")]
    fits = devices == "auto" or all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    if fits and numbers not in ([], [0]) and (len(numbers) > 1 or numbers[0] == "auto" or numbers[0] >= -1):
        return []
    return [f"trainer.devices={devices}: must be at least 1, -1 or auto for all, or a list of the devices' numbers."]
