"""The forms that the benchmark compares compute the same, so that their times can be compared."""

import sys

import pytest
import torch

from tests.conftest import REPOSITORY

SIZES = {"tokens": 64, "words": 96, "student": 16, "teacher": 24}


@pytest.fixture(scope="module")
def kd_loss():
    """The benchmark, which its folder must be on the path for."""
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        import kd_loss

        yield kd_loss
    finally:
        sys.path.remove(str(REPOSITORY / "benchmarks"))


def gradients(kd_loss, name, precision):
    batch = kd_loss.Batch(kd_loss.Sizes(**SIZES), "cpu", precision)
    kd_loss.in_precision(name, batch, "cpu").backward()
    return [tensor.grad for tensor in batch.trained]


def test_our_form_has_the_usual_ones_gradients_in_both_precisions(kd_loss):
    expected = gradients(kd_loss, kd_loss.USUAL, "float32")
    for found, usual in zip(gradients(kd_loss, kd_loss.OURS, "float32"), expected):
        torch.testing.assert_close(found, usual, rtol=1e-4, atol=1e-6)
    for found, usual in zip(gradients(kd_loss, kd_loss.OURS, "bfloat16"), expected):
        assert torch.cosine_similarity(found.flatten(), usual.flatten(), 0) > 0.999


def test_the_table_has_columns_for_both_precisions_and_names_what_is_not_installed(kd_loss, capsys):
    costs = {
        (precision, name): {"seconds": seconds, "bytes": 2_000_000}
        for precision, seconds in (("float32", 2.0), ("bfloat16", 1.0))
        for name in kd_loss.FORMS
    }
    costs["float32", kd_loss.USUAL] = {"seconds": 5.0, "bytes": 40_000_000}
    costs["float32", "Liger, chunked"] = costs["bfloat16", "Liger, chunked"] = None
    kd_loss.print_table(costs, {("bfloat16", kd_loss.OURS): "0.99990"})
    rows = [line.count("|") for line in capsys.readouterr().out.splitlines()]
    assert set(rows) == {10}
    found = kd_loss.ratios(costs)
    assert found["speedup_over_plain"] == 2.5 and found["bfloat16_speedup_over_float32_plain"] == 5.0
    assert found["memory_over_plain"] == 0.05 and found["bfloat16_time_over_floor"] == 1.0


def test_a_quick_run_gives_no_verdict(kd_loss, capsys):
    from aims import print_verdict

    print_verdict({"time_over_floor": 9.0}, {"time_over_floor": ("at most", 1.4)}, quick=True)
    assert "No verdict" in (said := capsys.readouterr().out) and "met" not in said
    print_verdict({"time_over_floor": 9.0}, {"time_over_floor": ("at most", 1.4)}, quick=False)
    assert "**not met**" in capsys.readouterr().out
