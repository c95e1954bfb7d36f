import numpy as np
import pytest

from nemo_distill.metrics.learning_curve import growth, growth_problem, steps_points

AMOUNTS = [1_000, 2_000, 4_000, 8_000, 16_000]


def law(amount, exponent=0.5):
    return 40 - 20 * (amount / 1_000) ** -exponent


@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0])
def test_points_on_a_power_law_give_its_own_continuation(exponent):
    found = growth([(amount, law(amount, exponent)) for amount in AMOUNTS], 10)
    gain = law(160_000, exponent) - law(16_000, exponent)
    assert found.amount == 16_000 and found.now == pytest.approx(law(16_000, exponent), abs=0.05)
    assert found.gain == pytest.approx(gain, rel=0.05) and found.high - found.low < 0.3


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    truth, hits = law(160_000) - law(16_000), 0
    for _ in range(25):
        noise = generator.normal(0, 0.2, len(AMOUNTS))
        found = growth([(amount, law(amount) + one) for amount, one in zip(AMOUNTS, noise)], 10)
        hits += found.low <= truth <= found.high
    assert hits >= 22


def test_scores_that_no_longer_grow_promise_nothing():
    found = growth([(amount, 30.0 - number / 10) for number, amount in enumerate(AMOUNTS)], 10)
    assert found.gain == 0 and found.low >= 0


@pytest.mark.parametrize(
    ("amounts", "words"),
    [
        ([1, 2, 4, 8], "4 amounts"),
        ([8, 8, 8, 16, 16], "2 amounts"),
        ([10, 11, 12, 13, 14], "only 1.4 times"),
        ([], "0 amounts"),
    ],
)
def test_too_few_or_too_close_points_are_refused(amounts, words):
    points = [(amount, 1.0) for amount in amounts]
    assert words in growth_problem(points)
    with pytest.raises(ValueError, match=words):
        growth(points, 4)


def test_a_training_that_has_not_come_to_its_power_law_yet_is_refused():
    """The first half of a curve that is like an S."""
    early = [(number, 50 / (1 + np.exp(5 - number / 2))) for number in range(4, 17)]
    assert "do not follow a power law" in growth_problem(early)
    generator = np.random.default_rng(1)
    late = [(number, 50 - 20 * number**-0.5 + generator.normal(0, 0.3)) for number in range(4, 17)]
    assert growth_problem(late) is None


def test_a_score_that_is_no_number_is_refused():
    points = [(amount, law(amount)) for amount in AMOUNTS]
    assert growth_problem(points) is None
    assert growth_problem([*points[:-1], (16_000, np.nan)]) == "some scores are not finite numbers"


def test_the_first_steps_of_a_training_are_left_out():
    assert steps_points([(10, 1.0), (200, 5.0), (900, 9.0), (1000, 9.5)]) == [(200, 5.0), (900, 9.0), (1000, 9.5)]
    assert steps_points([]) == []
