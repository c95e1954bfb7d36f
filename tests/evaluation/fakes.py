"""Systems that translate without a model; a process of its own can import them."""

import os
from dataclasses import dataclass

from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.evaluation.systems import System

# What a record of an evaluation has beside what a test tells of: a system, a test set, and the whole.
SYSTEM = {
    "sha256": "", "engine": "nemo_distill", "precision": None, "beam_size": None, "same_model_as": None, "seed": None,
    "role": None, "bytes": None, "parameters": None, "parameters_without_embeddings": None, "compression": None,
    "training": None, "label_smoothing": None, "selected_by": [], "speed": None,
}  # fmt: skip
SET = {
    "lines": 1000,
    "references": 1,
    "sha256": {},
    "lower_is_better": [],
    "groups": {},
    "comparisons": [],
    "gaps": {},
}
RECORD = {
    "made_with": {"date": "today", "device": "cpu: small", "threads": 2, "versions": {}, "git_revision": None},
    "verdict": None, "notes": [],
}  # fmt: skip


class Shouting:
    """Gives each line back in capital letters, and counts its calls."""

    def __init__(self):
        self.calls = []

    def translate(self, lines, settings):
        self.calls.append(len(lines))
        return [Translation((Hypothesis(line.upper(), 0.0),)) for line in lines]


@dataclass(frozen=True)
class FakeSystem(System):
    """A system whose engine is `Shouting`; its model is any file."""

    def load(self, device):
        return Shouting()


class Threads:
    """Translates each line into as many words as PyTorch has threads."""

    def translate(self, lines, settings):
        import torch

        return [Translation((Hypothesis("a " * torch.get_num_threads(), 0.0),)) for _ in lines]


@dataclass(frozen=True)
class ThreadCounting(System):
    """A system whose engine is `Threads`; its model is any file."""

    def load(self, device):
        return Threads()


@dataclass(frozen=True)
class Telling(System):
    """A system whose engine is `Shouting`; its model is a file into which it writes the number of its process."""

    def load(self, device):
        written = self.model.with_suffix(".tmp")
        written.write_text(str(os.getpid()))
        written.rename(self.model)
        return Shouting()
