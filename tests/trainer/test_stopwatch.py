"""A training that is timed: which steps count, and when it ends."""

from types import SimpleNamespace

import pytest

from nemo_distill.trainer import stopwatch
from nemo_distill.trainer.stopwatch import Stopwatch


@pytest.fixture
def run(monkeypatch):
    """Runs batches of given seconds, two for each optimizer step, and returns the stopwatch and the last step."""

    def train(batches, **options):
        clock, trainer = SimpleNamespace(now=0.0), SimpleNamespace(global_step=0, should_stop=False)
        monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: clock.now)
        watch, model = Stopwatch(**options), SimpleNamespace(device=SimpleNamespace(type="cpu"))
        for batch, taken in enumerate(batches, start=1):
            clock.now += taken
            trainer.global_step = batch // 2
            watch.on_train_batch_end(trainer, model, None, None, batch)
            if trainer.should_stop:
                break
        return watch, trainer.global_step

    return train


def test_the_first_steps_are_left_out_and_each_part_has_its_mean(run):
    watch, last = run([50.0] * 4 + [1.0] * 8 + [2.0] * 8, seconds=20.0, first_steps=2, parts=2)
    assert watch.began == 200.0
    assert watch.repeats == pytest.approx([2 * 12 / 10, 4.0]) and last == 10


def test_a_part_has_at_least_one_step(run):
    watch, last = run([30.0] * 20, seconds=1.0, first_steps=1, parts=3)
    assert watch.repeats == [60.0] * 3 and last == 4
