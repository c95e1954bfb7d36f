from math import comb

import pytest

from nemo_distill.failures.rates import holm, mcnemar, wilson


def test_wilsons_interval_of_a_textbook():
    rate = wilson(2, 10)  # Brown, Cai & DasGupta 2001: 0.0567 to 0.5098
    assert (rate.per_thousand, round(rate.low, 1), round(rate.high, 1)) == (200, 56.7, 509.8)


def test_no_hit_leaves_a_rate_above_zero_possible():
    assert wilson(0, 3000).low == 0 and 1 < wilson(0, 3000).high < 2


def test_mcnemar_is_the_binomial_of_the_sentences_that_only_one_fails():
    mine, theirs = {1, 2, 3, 4, 5, 6, 20}, {7, 20}
    both_tails = 2 * sum(comb(7, hits) for hits in (6, 7)) / 2**7
    assert mcnemar(mine, theirs) == pytest.approx(both_tails)
    assert mcnemar(theirs, mine) == pytest.approx(both_tails)
    assert mcnemar({1, 2}, {1, 2}) == 1


def test_holm_multiplies_by_the_number_of_tests_that_are_left():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []
