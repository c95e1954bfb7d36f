import random
import tracemalloc

import pytest

from nemo_distill.pseudo_labels.corpus_filters import CorpusFilters, LowestScores
from nemo_distill.pseudo_labels.judge import Outcome
from tests.pseudo_labels.fakes import only


def lowest(share, scores):
    part = LowestScores(share)
    for score in scores:
        part.see(score)
    part.close()
    return [score for score in scores if part.drops(score)]


@pytest.mark.parametrize(
    ("share", "scores", "dropped"),
    [
        (0.25, [-4.0, -1.0, -3.0, -2.0], [-4.0]),
        (0.5, [-4.0, -1.0, -3.0, -2.0], [-4.0, -3.0]),
        (0.24, [-4.0, -1.0, -3.0, -2.0], []),
        (0.5, [-1.0, -1.0, -1.0, -1.0], []),
        (0.5, [-2.0, -1.0, -1.0, -1.0], [-2.0]),
        (0.9, [-1.0], []),
        (0.5, [], []),
        (0.5, [-0.0001, -0.0002], []),
        (0.29, [float(score) for score in range(100)], [float(score) for score in range(29)]),
    ],
)
def test_the_lowest_share_of_scores_goes_and_of_equals_none(share, scores, dropped):
    assert lowest(share, scores) == dropped


def test_a_share_of_many_scores_is_met_closely():
    generator = random.Random(0)
    scores = [generator.gauss(-1, 0.5) for _ in range(20_000)]
    assert len(lowest(0.05, scores)) == pytest.approx(1000, abs=25)
    assert max(lowest(0.05, scores)) < sorted(scores)[1010]


def test_memory_does_not_grow_with_the_pairs(tmp_path):
    peaks = []
    for count in (5_000, 50_000):
        corpus_filters = CorpusFilters(only(duplicates=True, score_quantile=0.1), tmp_path)
        tracemalloc.start()
        for line in range(count):
            corpus_filters.see(Outcome(line, str(line), "x", -(line % 997) / 100, None, None))
        corpus_filters.close()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_each_pair_is_dropped_for_one_reason(tmp_path):
    outcomes = [
        Outcome(1, "a", "x", -5.0, -1.0, None),
        Outcome(2, "b", "y", -1.0, -9.0, None),
        Outcome(3, "c", "z", -1.0, -1.0, None),
        Outcome(4, "c", "z", -1.0, -1.0, None),
    ]
    settings = only(duplicates=True, score_quantile=0.25, reverse_score_quantile=0.25)
    corpus_filters = CorpusFilters(settings, tmp_path)
    for outcome in outcomes:
        corpus_filters.see(outcome)
    corpus_filters.close()
    reasons = [corpus_filters.reason(outcome) for outcome in outcomes]
    assert reasons == ["score_quantile", "reverse_score_quantile", None, "duplicates"]
    assert corpus_filters.thresholds() == {"score": -1.0, "reverse_score": -1.0} and list(tmp_path.iterdir()) == []


def test_without_reverse_scores_their_filter_has_no_effect(tmp_path):
    corpus_filters = CorpusFilters(only(reverse_score_quantile=0.5), tmp_path)
    outcome = Outcome(1, "a", "x", -5.0, None, None)
    corpus_filters.see(outcome)
    corpus_filters.close()
    assert corpus_filters.reason(outcome) is None and corpus_filters.thresholds() == {"reverse_score": None}
