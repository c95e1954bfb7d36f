"""Systems that translate without a model; a process of its own can import them."""

from dataclasses import dataclass

from nemo_distill.decoding.engine import Hypothesis, Translation
from nemo_distill.evaluation.systems import System


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
